"""What follows from the settings."""

from pathlib import Path
from typing import Any

from api.settings import Settings


def settings(**more: Any) -> Settings:
    addresses = dict.fromkeys(("rpc_url", "ledger", "image_access", "ipfs", "index_url"), "x")
    paths = dict.fromkeys(("spool", "keystore", "password_file"), Path("x"))
    return Settings(**addresses, **paths, relayer="relayer", **more)  # type: ignore[arg-type]


def test_a_server_is_for_its_own_machine_unless_told_otherwise() -> None:
    found = settings()
    assert (found.host, found.uri, found.domain) == (
        "127.0.0.1",
        "http://127.0.0.1:8000",
        "127.0.0.1:8000",
    )
    assert found.allowed_hosts == {"127.0.0.1", "localhost"}


def test_origin_and_further_names_are_allowed_hosts_in_lower_case() -> None:
    found = settings(origin="https://fed.example", hosts=("a.example", "B.example"))
    assert found.domain == "fed.example"
    assert found.allowed_hosts == {"a.example", "b.example", "127.0.0.1", "fed.example"}
