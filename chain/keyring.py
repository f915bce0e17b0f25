"""A party's keys on disk, and the folder beside them that is the party's own."""

from dataclasses import dataclass
from pathlib import Path

from chain.keystore import Identity, load_identity, read_password
from chain.secret_file import kept_secret


@dataclass(frozen=True, slots=True)
class Keyring:
    """Where a party's keys and their password lie, and beside them its own folder."""

    key: Path
    password_file: Path | None

    @property
    def name(self) -> str:
        """The name under which the keys are stored."""
        return self.key.name.removesuffix(".json")

    @property
    def work(self) -> Path:
        """The party's own folder, for its outbox and working files; made if missing.

        It lies beside the key, because whatever sends for one account has to share one outbox.
        """
        folder = self.key.with_name(f"{self.name}.work")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    @property
    def outbox(self) -> Path:
        """Where the party's signed transactions wait until the chain has them."""
        return self.work / "outbox"

    @property
    def datasets(self) -> Path:
        """Where a hospital's committed data sets lie; made if missing."""
        folder = self.work / "datasets"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    @property
    def pseudonym_key(self) -> Path:
        """Where the 32 bytes lie that a hospital's pseudonyms are made with."""
        return self.work / "pseudonyms.secret"

    def pseudonym_secret(self) -> bytes:
        """Return the 32 random bytes that a hospital's pseudonyms are made with, once for all."""
        return kept_secret(self.pseudonym_key)

    def unlock(self) -> Identity:
        """Decrypt the keys, asking for the password where no file gives it."""
        password = read_password(self.password_file, f"Password of {self.key}: ")
        return load_identity(self.key.parent, self.name, password)

    def options(self) -> tuple[str, ...]:
        """Return the options that let a command act for this party."""
        password = () if self.password_file is None else ("--password-file", self.password_file)
        return tuple(map(str, ("--key", self.key, *password)))
