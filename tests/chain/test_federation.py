"""The federation's file, and the parties' keys."""

import stat
from pathlib import Path

import pytest

from chain.errors import InvalidInputError
from chain.federation import Federation, read_federation, write_federation
from chain.types import Role
from demo.parties import gather


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    federation = Federation(
        31337, "0x" + "1" * 40, "0x" + "2" * 40, "http://x", "/ip4/y", "http://z"
    )
    write_federation(tmp_path / "federation.json", federation)
    assert read_federation(tmp_path / "federation.json") == federation


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "federation.json"
    for content in ("[]", "{", '{"chain_id": "1"}', '{"password": "secret"}', '{"chain_id": true}'):
        path.write_text(content)
        with pytest.raises(InvalidInputError):
            read_federation(path)


def test_a_missing_address_names_the_option_that_gives_it() -> None:
    with pytest.raises(InvalidInputError, match="--image-access"):
        Federation(rpc_url="http://x").needs("rpc_url", "image_access")
    with pytest.raises(InvalidInputError, match="--rpc"):
        Federation().needs("rpc_url")


def test_parties_keep_their_keys_and_nobody_else_can_read_them(tmp_path: Path) -> None:
    roles = (("steward", Role.STEWARD), ("relayer", None))
    first, second = (gather(tmp_path / "keys", roles) for _ in range(2))
    assert first["steward"].address == second["steward"].address
    assert first["steward"].address != first["relayer"].address
    assert [party.name for party in first.of_role(Role.STEWARD)] == ["steward"]
    assert first.name_of(first["relayer"].address) == "relayer"
    for file in (tmp_path / "keys").glob("*.*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
