"""A party's two private keys, in encrypted files.

Both lie in Web3 Secret Storage, version 3 (https://ethereum.org/developers/docs/data-structures-
and-encoding/web3-secret-storage/): `NAME.json` holds the secp256k1 key, which any wallet can
import, and `NAME.x25519.json` the X25519 key (docs/protocol.md, section 2).
"""

import getpass
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json
from eth_utils.exceptions import ValidationError

from chain.canonical import parse_json
from chain.envelope import public_key
from chain.errors import InvalidInputError, KeystoreError
from chain.files import replacing

SCRYPT_N = 1 << 18  # geth's standard work factor; 256 MiB of memory
MAX_SCRYPT_N = 1 << 20
MAX_KEYFILE = 16_384  # bytes
MAX_PASSWORD_FILE = 4_096  # bytes
KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A party's private keys, in memory; what is printed of it holds no secret."""

    account: LocalAccount = field(repr=False)
    encryption_private_key: bytes = field(repr=False)

    @property
    def address(self) -> str:
        """The address that identifies the party."""
        return str(self.account.address)

    @property
    def encryption_key(self) -> bytes:
        """The X25519 public key, which enrolment publishes."""
        return public_key(self.encryption_private_key)

    def __repr__(self) -> str:
        return f"Identity({self.address})"


def create_identity(
    folder: Path, name: str, password: str, *, scrypt_n: int = SCRYPT_N
) -> Identity:
    """Make a party's keys and store them encrypted.

    Args:
        folder: Made, for its owner alone, if missing.
        name: What the files are called: letters, digits, `-` and `_`.
        password: Encrypts both files.
        scrypt_n: Work factor of scrypt (RFC 7914); lower it in tests only.

    Raises:
        KeystoreError: If there are keys of this name already, or the password is empty.
    """
    files = _files(folder, name)
    for path in files:
        if path.exists():
            message = f"{path} exists already; keys are never overwritten: take another name"
            raise KeystoreError(message)
    if not password:
        message = "expected a password for the new keys, found an empty one"
        raise KeystoreError(message)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(folder)
    identity = Identity(Account.create(), X25519PrivateKey.generate().private_bytes_raw())
    # The account's file comes last: where it lies, the identity is complete.
    _store(files[1], identity.encryption_private_key, identity.encryption_key, password, scrypt_n)
    address = bytes.fromhex(identity.address[2:])
    _store(files[0], bytes(identity.account.key), address, password, scrypt_n)
    return identity


def load_identity(folder: Path, name: str, password: str) -> Identity:
    """Decrypt a party's keys.

    Raises:
        KeystoreError: If a file is missing, damaged or open to other users, or the password is
            wrong.
    """
    account_file, encryption_file = _files(folder, name)
    secret, address = _load(account_file, password)
    encryption_secret, encryption_key = _load(encryption_file, password)
    try:
        identity = Identity(Account.from_key(secret), encryption_secret)
        found = identity.address[2:].lower(), identity.encryption_key.hex()
    except (ValueError, ValidationError) as error:
        raise _damaged(account_file, "what it holds is no key") from error
    for path, expected, public in zip(
        (account_file, encryption_file), (address, encryption_key), found, strict=True
    ):
        if expected.lower() != public:
            raise _damaged(path, f"expected the key of {expected}, found that of {public}")
    return identity


def read_password(password_file: Path | None, prompt: str) -> str:
    """Read a password from a file, or ask for it where there is none.

    Args:
        password_file: Its first line is the password. Only its owner may be able to read it.
        prompt: What to ask for on the terminal.

    Raises:
        KeystoreError: If there is no password to be had.
    """
    if password_file is None:
        return _ask(prompt)
    _check_private(password_file)
    try:
        with password_file.open("rb") as file:
            lines = file.read(MAX_PASSWORD_FILE).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read the password file {password_file}: {error}"
        raise KeystoreError(message) from error
    if not lines or not lines[0]:
        message = f"expected a password in the first line of {password_file}, found none"
        raise KeystoreError(message)
    return lines[0]


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError as error:
        message = "there is no terminal to ask for a password on: give a password file"
        raise KeystoreError(message) from error


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    if not _NAME.fullmatch(name):
        message = f"expected a name of 1 to 64 letters, digits, '-' and '_', found {name!r}"
        raise KeystoreError(message)
    return folder / f"{name}.json", folder / f"{name}.x25519.json"


def _store(path: Path, secret: bytes, public: bytes, password: str, scrypt_n: int) -> None:
    content = create_keyfile_json(secret, password, 3, "scrypt", scrypt_n)
    # The format's `address` is optional. It holds here what the key's owner publishes, so that
    # a damaged initialisation vector, which the format's MAC leaves out, is noticed.
    content["address"] = public.hex()
    with replacing(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")


def _load(path: Path, password: str) -> tuple[bytes, str]:
    """Decrypt a key file; returns the key and the public value that it should have, in hex."""
    _check_private(path)
    try:
        with path.open("rb") as file:
            content = cast("dict[str, Any]", parse_json(file.read(MAX_KEYFILE + 1), MAX_KEYFILE))
        _check_cost(content["crypto"]["kdfparams"])
        secret = decode_keyfile_json(content, password)
        return bytes(secret), str(content["address"])
    except (OSError, InvalidInputError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    except ValueError as error:
        if "MAC mismatch" not in str(error):
            raise _damaged(path, error) from error
        message = f"the password does not open {path}, or the file was changed"
        raise KeystoreError(message) from error


def _check_cost(scrypt: dict[str, Any]) -> None:
    """Refuse parameters that would take the machine's memory or time."""
    cost, rest = scrypt["n"], (scrypt["r"], scrypt["p"], scrypt["dklen"])
    if type(cost) is not int or not 1 < cost <= MAX_SCRYPT_N or rest != (8, 1, KEY_BYTES):
        message = f"expected scrypt with n up to {MAX_SCRYPT_N}, r=8, p=1, found n={cost}, {rest}"
        raise InvalidInputError(message)


def _damaged(path: Path, reason: object) -> KeystoreError:
    return KeystoreError(f"{path} is no usable key file ({reason}): restore it from a backup")


def _check_private(path: Path) -> None:
    """Refuse a file or folder that other users of the machine can open."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}. Is the folder or the name another?"
        raise KeystoreError(message) from error
    if os.name == "posix" and mode & 0o077:
        wanted = 0o700 if path.is_dir() else 0o600
        message = (
            f"{path}: expected mode {wanted:o}, found {mode:o}: other users can open it; "
            f"run `chmod {wanted:o} {path}`"
        )
        raise KeystoreError(message)
