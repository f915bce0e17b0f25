"""The parties of a local federation: their names, roles and keys."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from chain.files import replacing
from chain.keyring import Keyring
from chain.keystore import Identity, create_identity, read_password
from chain.types import Role

# The passwords are 256 random bits, which no stretching makes harder to guess.
SCRYPT_N = 1 << 12


@dataclass(frozen=True, slots=True)
class Party:
    """One party, its keys in memory and on disk. ``role`` is None for a mere relayer."""

    name: str
    role: Role | None
    identity: Identity
    keyring: Keyring

    @property
    def address(self) -> str:
        """The party's address."""
        return self.identity.address


@dataclass(frozen=True, slots=True)
class Cast:
    """All parties of a local federation, by name."""

    parties: dict[str, Party]

    def __getitem__(self, name: str) -> Party:
        """Return the party of this name."""
        return self.parties[name]

    def of_role(self, role: Role) -> tuple[Party, ...]:
        """Return the parties of one role, in the order in which they were named."""
        return tuple(party for party in self.parties.values() if party.role is role)

    def name_of(self, address: str) -> str:
        """Return a party's name, or the address itself where it is a stranger's."""
        names = {party.address: party.name for party in self.parties.values()}
        return names.get(address, address)


def gather(folder: Path, roles: Iterable[tuple[str, Role | None]]) -> Cast:
    """Load every party's keys, making those that are missing.

    Args:
        folder: Holds keystore files and, each readable by its owner alone, random passwords.
        roles: The parties' names and roles.

    Raises:
        KeystoreError: If keys are damaged or lie open to other users.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Cast({name: _party(folder, name, role) for name, role in roles})


def _party(folder: Path, name: str, role: Role | None) -> Party:
    key, password_file = folder / f"{name}.json", folder / f"{name}.password"
    if not password_file.exists():
        with replacing(password_file) as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
    keyring = Keyring(key, password_file)
    if key.exists():
        return Party(name, role, keyring.unlock(), keyring)
    password = read_password(password_file, "")
    identity = create_identity(folder, name, password, scrypt_n=SCRYPT_N)
    return Party(name, role, identity, keyring)
