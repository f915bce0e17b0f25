"""The Python side compiles the contracts, to what Hardhat compiles."""

import json
import shutil
from pathlib import Path

import pytest

from chain import compiler, solc_process
from chain.codec import CONTRACTS, contract_abi
from chain.compiler import compile_contracts
from chain.errors import CompilationError
from tests.federation import ROOT

SIMPLE = "// SPDX-License-Identifier: MIT\npragma solidity 0.8.37;\n"


@pytest.fixture(scope="module")
def compiled_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of empty contracts, compiled."""
    folder = tmp_path_factory.mktemp("compiled") / "project"
    (folder / "contracts").mkdir(parents=True)
    for name in CONTRACTS:
        (folder / "contracts" / f"{name}.sol").write_text(f"{SIMPLE}contract {name} {{}}\n")
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    compile_contracts(folder)
    return folder


@pytest.fixture
def project(compiled_project: Path, tmp_path: Path) -> Path:
    """The same, to be changed by one test."""
    return shutil.copytree(compiled_project, tmp_path / "project", symlinks=True)


def test_the_contracts_compile_to_the_abi_that_the_client_speaks() -> None:
    compiled = compile_contracts(ROOT)
    assert {name: contract.abi for name, contract in compiled.items()} == {
        name: contract_abi(name) for name in CONTRACTS
    }


def test_compiling_happens_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_compile", None)
    assert set(compile_contracts(project)) == set(CONTRACTS)


def test_a_changed_source_is_compiled_anew(project: Path) -> None:
    first = compile_contracts(project)
    source = project / "contracts" / "RoundLedger.sol"
    source.write_text(f"{SIMPLE}contract RoundLedger {{ uint256 public answer = 42; }}\n")
    assert compile_contracts(project)["RoundLedger"] != first["RoundLedger"]


def test_a_damaged_result_is_compiled_anew(project: Path) -> None:
    first = compile_contracts(project)
    for kept in (project / "cache" / "python").glob("*.json"):
        kept.write_text(kept.read_text()[:-10])
    assert compile_contracts(project) == first


def test_a_mistake_in_a_contract_is_shown_as_the_compiler_tells_it(project: Path) -> None:
    source = project / "contracts" / "RoundLedger.sol"
    source.write_text(f"{SIMPLE}contract RoundLedger {{ uint256 x = missing; }}\n")
    with pytest.raises(CompilationError, match=r"(?s)Undeclared identifier.*RoundLedger.sol"):
        compile_contracts(project)


def test_a_missing_source_is_named(project: Path) -> None:
    source = project / "contracts" / "RoundLedger.sol"
    source.write_text(f'{SIMPLE}import {{Rounds}} from "./Rounds.sol";\n')
    with pytest.raises(CompilationError, match=r"Rounds\.sol cannot be read.*make setup"):
        compile_contracts(project)


def test_without_a_compiler_it_says_what_to_do(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "node_modules").unlink()
    shutil.rmtree(project / "cache")
    monkeypatch.setattr(compiler, "_native_compiler", lambda: None)
    with pytest.raises(CompilationError, match="run `make setup`"):
        compile_contracts(project)


def test_a_native_compiler_of_the_right_version_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = tmp_path / "solc"
    monkeypatch.setattr(compiler, "_native_candidates", lambda: [tmp_path / "none", native])
    told = {native: "0.8.37"}
    monkeypatch.setattr(compiler, "get_solc_version", lambda path: _version(told, path))
    compiler._native_compiler.cache_clear()
    assert compiler._native_compiler() == native
    told[native] = "0.8.30"
    compiler._native_compiler.cache_clear()
    assert compiler._native_compiler() is None
    compiler._native_compiler.cache_clear()


def _version(told: dict[Path, str], path: Path) -> str:
    if path not in told:
        raise FileNotFoundError(path)
    return told[path]


def test_a_script_on_the_path_is_no_native_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "solc"
    script.write_text("#!/bin/sh\necho 0.8.37+commit.0000\n")
    script.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("solc") == str(script)
    assert script not in compiler._native_candidates()


def test_a_compiler_that_does_not_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(solc_process, "LIMIT_SECONDS", 0.1)
    assert solc_process.main(["sleep", "60"]) == 1
    assert "did not finish" in capsys.readouterr().err


def test_the_settings_are_hardhat_s() -> None:
    config = (ROOT / "hardhat.config.js").read_text()
    settings = json.loads(json.dumps(compiler.SETTINGS))
    assert f'version: "{compiler.SOLC_VERSION}"' in config
    assert f'evmVersion: "{settings["evmVersion"]}"' in config
    assert f'bytecodeHash: "{settings["metadata"]["bytecodeHash"]}"' in config
    assert f"runs: {settings['optimizer']['runs']} }}" in config
    assert "viaIR: true" in config
