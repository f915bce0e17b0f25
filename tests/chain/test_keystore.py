"""Keys lie encrypted, and every way to fail says what to do."""

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from chain.errors import KeystoreError
from chain.keystore import Identity, create_identity, load_identity, read_password

PASSWORD = "correct horse"
LOW_COST = 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def identity(folder: Path) -> Identity:
    return create_identity(folder, "north", PASSWORD, scrypt_n=LOW_COST)


def change(path: Path, **members: Any) -> None:
    content = json.loads(path.read_bytes())
    content["crypto"].update(members)
    path.write_text(json.dumps(content))


def test_the_keys_are_loaded_again(folder: Path, identity: Identity) -> None:
    loaded = load_identity(folder, "north", PASSWORD)
    assert loaded.address == identity.address
    assert loaded.encryption_private_key == identity.encryption_private_key
    assert loaded.encryption_key == identity.encryption_key


def test_any_wallet_can_import_the_account(folder: Path, identity: Identity) -> None:
    keyfile = json.loads((folder / "north.json").read_bytes())
    assert bytes(Account.decrypt(keyfile, PASSWORD)) == bytes(identity.account.key)
    assert keyfile["version"] == 3


def test_only_the_owner_can_read_the_files(folder: Path, identity: Identity) -> None:
    assert identity
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_secret_is_printed_or_stored(folder: Path, identity: Identity) -> None:
    secrets = bytes(identity.account.key).hex(), identity.encryption_private_key.hex()
    shown = f"{identity} {identity!r}" + "".join(p.read_text() for p in folder.iterdir())
    assert identity.address in shown
    for secret in (*secrets, str(identity.encryption_private_key), PASSWORD):
        assert secret not in shown


def test_a_wrong_password_is_refused(folder: Path, identity: Identity) -> None:
    assert identity
    with pytest.raises(KeystoreError, match="password does not open") as refusal:
        load_identity(folder, "north", "wrong password")
    assert "wrong password" not in str(refusal.value)


def test_missing_keys_are_named(folder: Path, identity: Identity) -> None:
    assert identity
    with pytest.raises(KeystoreError, match=r"south\.json cannot be read"):
        load_identity(folder, "south", PASSWORD)


@pytest.mark.parametrize("name", ["north.json", "north.x25519.json"])
def test_a_file_that_others_can_read_is_refused(
    folder: Path, identity: Identity, name: str
) -> None:
    assert identity
    (folder / name).chmod(0o644)
    with pytest.raises(KeystoreError, match="chmod 600"):
        load_identity(folder, "north", PASSWORD)


@pytest.mark.parametrize("name", ["north.json", "north.x25519.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"crypto": 1}', b"x" * 20_000])
def test_a_damaged_file_is_refused(
    folder: Path, identity: Identity, name: str, content: bytes
) -> None:
    assert identity
    (folder / name).write_bytes(content)
    with pytest.raises(KeystoreError, match="no usable key file"):
        load_identity(folder, "north", PASSWORD)


@pytest.mark.parametrize("name", ["north.json", "north.x25519.json"])
def test_a_changed_initialisation_vector_is_noticed(
    folder: Path, identity: Identity, name: str
) -> None:
    assert identity
    change(folder / name, cipherparams={"iv": "00" * 16})
    with pytest.raises(KeystoreError, match="no usable key file"):
        load_identity(folder, "north", PASSWORD)


def test_a_work_factor_that_takes_all_memory_is_refused(folder: Path, identity: Identity) -> None:
    assert identity
    costly = {"n": 1 << 40, "r": 8, "p": 1, "dklen": 32, "salt": "00" * 16}
    change(folder / "north.json", kdfparams=costly)
    with pytest.raises(KeystoreError, match="scrypt"):
        load_identity(folder, "north", PASSWORD)


def test_keys_are_never_overwritten(folder: Path, identity: Identity) -> None:
    with pytest.raises(KeystoreError, match="exists already"):
        create_identity(folder, "north", PASSWORD, scrypt_n=LOW_COST)
    assert load_identity(folder, "north", PASSWORD).address == identity.address


@pytest.mark.parametrize("name", ["", "../north", "a/b", ".north", "n" * 65])
def test_a_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(KeystoreError, match="expected a name"):
        create_identity(folder, name, PASSWORD, scrypt_n=LOW_COST)


def test_an_empty_password_is_refused(folder: Path) -> None:
    with pytest.raises(KeystoreError, match="empty"):
        create_identity(folder, "north", "", scrypt_n=LOW_COST)
    assert not folder.exists()


def test_a_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("correct horse\nanything\n")
    path.chmod(0o600)
    assert read_password(path, "Password: ") == PASSWORD


def test_a_password_file_without_a_password_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(0o600)
    with pytest.raises(KeystoreError, match="first line"):
        read_password(path, "Password: ")
    path.chmod(0o640)
    with pytest.raises(KeystoreError, match="chmod 600"):
        read_password(path, "Password: ")
    with pytest.raises(KeystoreError, match="cannot be read"):
        read_password(tmp_path / "missing", "Password: ")


def test_without_a_terminal_a_password_file_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal(prompt: str) -> str:
        raise EOFError(prompt)

    monkeypatch.setattr("getpass.getpass", no_terminal)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(KeystoreError, match="give a password file"):
        read_password(None, "Password: ")
