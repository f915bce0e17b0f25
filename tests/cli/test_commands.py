"""The command line: help that teaches, and errors in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from click import Command, Group
from typer.testing import CliRunner

from api.settings import MAX_UPLOAD_BYTES, MEBIBYTE, Settings
from chain.devnet.ports import free_port
from chain.errors import InvalidInputError
from chain.federation import Federation, write_federation
from chain.keyring import Keyring
from cli.command import command
from cli.main import command_line
from cli.screen import Screen

LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
runner = CliRunner()


def commands(group: Group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Command]:
    """List every command below a group by its words."""
    found: dict[tuple[str, ...], Command] = {}
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            found |= commands(one, (*path, name))  # type: ignore[arg-type]
        if not hasattr(one, "commands") or getattr(one, "invoke_without_command", False):
            found[*path, name] = one
    return found


ALL = commands(typer.main.get_command(command_line()))  # type: ignore[arg-type]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_shows_an_example_and_takes_json(words: tuple[str, ...]) -> None:
    one = ALL[words]
    assert f"Example: fedwitness {' '.join(words)}" in (one.help or one.callback.__doc__ or "")
    assert any("--json" in option.opts for option in one.params)
    assert runner.invoke(command_line(), [*words, "--help"]).exit_code == 0


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_no_command_takes_a_secret_as_an_argument(words: tuple[str, ...]) -> None:
    names = {name for option in ALL[words].params for name in option.opts}
    assert names.isdisjoint({"--password", "--private-key", "--secret"})


def test_an_unreachable_chain_is_one_line_and_exit_code_2() -> None:
    where = ["--rpc", f"http://127.0.0.1:{free_port()}", "--ledger", LEDGER, "--ipfs", "/ip4/::1"]
    done = runner.invoke(command_line(), ["audit", *where, "--json"])
    assert done.exit_code == 2
    assert "error" in json.loads(done.stdout)
    assert "Traceback" not in done.output
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_missing_address_says_which_option_gives_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = runner.invoke(command_line(), ["participants", "list"])
    assert done.exit_code == 2
    assert "--rpc" in done.stderr


def test_a_missing_key_says_which_option_gives_it() -> None:
    done = runner.invoke(command_line(), ["hospital", "keygen"])
    assert done.exit_code == 2
    assert "--key" in done.stderr


def test_new_keys_print_what_a_steward_needs_and_no_secret(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    key = tmp_path / "keys" / "st-mary.json"
    arguments = ["--key", str(key), "--password-file", str(password), "--json"]
    done = runner.invoke(command_line(), ["hospital", "keygen", *arguments])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout).keys() == {"address", "encryption_key"}
    assert "correct horse" not in done.output
    again = runner.invoke(command_line(), ["hospital", "keygen", *arguments])
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def an_app(function: object) -> typer.Typer:
    built = typer.Typer()
    built.command()(command(function))  # type: ignore[arg-type]
    return built


def test_an_unexpected_error_becomes_a_line_with_a_log_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(*, screen: Screen) -> None:
        raise ZeroDivisionError(f"on {screen}")

    done = runner.invoke(an_app(fail), [])
    (log,) = tmp_path.glob("fedwitness-*.log")
    assert done.exit_code == 2
    assert str(log) in done.stderr.replace("\n", "")
    assert "Traceback" not in done.output
    assert "ZeroDivisionError" in log.read_text()


def test_an_expected_error_shows_its_message_and_kind_as_json() -> None:
    def fail(*, _screen: Screen) -> None:
        raise InvalidInputError("expected a, found [b]: do c")

    done = runner.invoke(an_app(fail), ["--json"])
    assert done.exit_code == 2
    assert json.loads(done.stdout) == {
        "error": {"kind": "InvalidInputError", "message": "expected a, found [b]: do c"}
    }
    assert "expected a, found [b]: do c" in done.stderr


def test_a_full_disk_is_one_line() -> None:
    def fail(*, _screen: Screen) -> None:
        raise OSError(28, "No space left on device", "/tmp/blob")  # noqa: S108

    done = runner.invoke(an_app(fail), [])
    assert done.exit_code == 2
    assert done.stderr.strip().endswith("/tmp/blob: No space left on device")  # noqa: S108


def test_options_override_the_federation_file(tmp_path: Path) -> None:
    path = tmp_path / "federation.json"
    write_federation(
        path, Federation(1, LEDGER, "0xaccess", "http://file", "/ip4/file", "http://api")
    )
    seen: list[Federation] = []

    def look(*, federation: Federation) -> None:
        seen.append(federation)

    runner.invoke(an_app(look), ["--federation", str(path), "--rpc", "http://option"])
    runner.invoke(an_app(look), [], env={"FEDWITNESS_FEDERATION": str(path)})
    runner.invoke(an_app(look), ["--federation", str(path), "--ledger", "0xother"])
    assert seen[0].rpc_url == "http://option"
    assert seen[0].ipfs == "/ip4/file"
    assert seen[1].rpc_url == "http://file"
    # Another ledger is another federation: the file's other contract is not its own.
    assert (seen[2].ledger, seen[2].image_access) == ("0xother", "")


def test_an_optional_key_may_be_left_out() -> None:
    seen: list[Keyring | None] = []

    def look(*, keyring: Keyring | None) -> None:
        seen.append(keyring)

    assert runner.invoke(an_app(look), []).exit_code == 0
    assert seen == [None]


def test_an_operators_limits_reach_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr("api.server.serve", seen.append)
    addresses = ["--rpc", "http://rpc", "--ledger", LEDGER, "--image-access", LEDGER]
    keys = ["--key", str(tmp_path / "relayer.json"), "--password-file", str(tmp_path / "password")]
    serve = ["aggregator", "serve", *addresses, "--ipfs", "/ip4/::1", *keys]
    assert runner.invoke(command_line(), serve).exit_code == 0
    limits = ["--max-upload-mib", "3", "--host-name", "a.example", "--host-name", "b.example"]
    assert runner.invoke(command_line(), [*serve, *limits]).exit_code == 0
    assert seen[0].max_upload_bytes == MAX_UPLOAD_BYTES
    assert seen[0].allowed_hosts == {"127.0.0.1", "localhost"}
    assert seen[1].max_upload_bytes == 3 * MEBIBYTE
    assert seen[1].allowed_hosts == {"127.0.0.1", "localhost", "a.example", "b.example"}
    assert runner.invoke(command_line(), [*serve, "--max-upload-mib", "9000"]).exit_code == 2


def test_a_first_model_is_made_once_and_depends_on_the_seed(tmp_path: Path) -> None:
    def make(name: str, seed: int) -> int:
        words = ["aggregator", "model", "--task", "pneumonia-2d", "--seed", str(seed)]
        return runner.invoke(command_line(), [*words, "--out", str(tmp_path / name)]).exit_code

    assert [make("a", 1), make("b", 1), make("c", 2), make("a", 2)] == [0, 0, 0, 2]
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_down_says_where_nothing_was_started(tmp_path: Path) -> None:
    result = runner.invoke(command_line(), ["down", "--folder", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "nothing was started there" in result.stderr


def test_a_command_loads_nothing_of_the_others() -> None:
    code = (
        "import sys; from cli.main import main; sys.argv = ['fedwitness', 'rules', '--json']\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'cli.hospital', 'web3', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
