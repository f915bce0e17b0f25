"""A party of a real federation, and commands run in its name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chain.keyring import Keyring
from chain.keystore import _store
from cli.main import command_line
from tests.federation import Federation


@dataclass(frozen=True)
class Party:
    """A party with its key files."""

    federation: Federation
    keyring: Keyring

    def run(self, *words: str) -> tuple[int, Any]:
        """Run a command with the party's keys, and return its exit code and what it printed."""
        return run(self.federation, *words, *self.keyring.options())


def run(federation: Federation, *words: str) -> tuple[int, Any]:
    """Run a command on a federation."""
    deployment = federation.deployment
    contracts = ("--ledger", deployment.ledger, "--image-access", deployment.image_access)
    return invoke(*words, "--rpc", federation.rpc_url, *contracts)


def invoke(*words: str) -> tuple[int, Any]:
    """Run a command with ``--json``, and return its exit code and what it printed."""
    done = CliRunner().invoke(command_line(), [*words, "--json"])
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def hospital(federation: Federation, tmp_path: Path) -> Party:
    """The first hospital of the federation."""
    return with_key_files(federation, "hospital-1", tmp_path / "keys" / "hospital.json")


@pytest.fixture
def steward(federation: Federation, tmp_path: Path) -> Party:
    """The steward of the federation."""
    return with_key_files(federation, "steward", tmp_path / "keys" / "steward.json")


def with_key_files(federation: Federation, name: str, key: Path) -> Party:
    """Write a party's keys and password to files."""
    identity = federation.identities[name]
    key.parent.mkdir(mode=0o700, exist_ok=True)
    password = key.with_suffix(".password")
    password.touch(mode=0o600)
    password.write_text("a password")
    account = bytes.fromhex(identity.address[2:])
    _store(key, bytes(identity.account.key), account, "a password", 2)
    _store(
        key.with_suffix(".x25519.json"),
        identity.encryption_private_key,
        identity.encryption_key,
        "a password",
        2,
    )
    return Party(federation, Keyring(key, password))
