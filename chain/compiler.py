"""Compiles the contracts from Python, through py-solc-x, to exactly what Hardhat makes of them.

A native compiler of the pinned version is used where py-solc-x or the path has one, npm's
WebAssembly build otherwise. Both make the same bytes. The result is kept by the digest of
sources and settings, so that compiling happens once.
"""

import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import solcx
from solcx.exceptions import SolcError
from solcx.wrapper import get_solc_version

from chain import solc_process
from chain.codec import CONTRACTS
from chain.errors import CompilationError
from chain.files import replacing

SOLC_VERSION = "0.8.37"

# The same as in hardhat.config.js.
SETTINGS: Mapping[str, Any] = {
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 200},
    "evmVersion": "cancun",
    "metadata": {"bytecodeHash": "none"},
    "outputSelection": {
        f"contracts/{name}.sol": {name: ["abi", "evm.bytecode.object"]} for name in CONTRACTS
    },
}

_IMPORT = re.compile(r"""^import\s[^;]*?["']([^"']+)["'];""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CompiledContract:
    """A contract ready to be deployed. ``bytecode`` is hexadecimal, without constructor values."""

    abi: list[dict[str, Any]]
    bytecode: str


CompiledContracts = Mapping[str, CompiledContract]


def compile_contracts(root: Path) -> CompiledContracts:
    """Compile the contracts, or find them compiled before.

    Args:
        root: The project's folder, with ``contracts/`` and ``node_modules/``. The result is kept
            under ``cache/python/``.

    Returns:
        The contracts by name.

    Raises:
        CompilationError: If sources or compiler are missing, or the sources do not compile.
    """
    sources = _sources(root)
    kept = root / "cache" / "python" / f"{_digest(sources)}.json"
    compiled = _read(kept)
    if compiled is None:
        compiled = _compile(root, sources)
        _write(kept, compiled)
    return compiled


def _sources(root: Path) -> dict[str, str]:
    """Read the contracts and all that they import, by the names that Hardhat gives them too."""
    sources: dict[str, str] = {}
    waiting = [f"contracts/{name}.sol" for name in CONTRACTS]
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        sources[name] = _source(root, name)
        waiting += [_imported(name, path) for path in _IMPORT.findall(sources[name])]
    return dict(sorted(sources.items()))


def _source(root: Path, name: str) -> str:
    path = root / "node_modules" / name if name.startswith("@") else root / name
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CompilationError(f"{path} cannot be read ({error}): run `make setup`") from error


def _imported(importer: str, path: str) -> str:
    if not path.startswith("."):
        return path
    parts = importer.split("/")[:-1]
    for part in path.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _digest(sources: Mapping[str, str]) -> str:
    text = json.dumps([SOLC_VERSION, SETTINGS, sources], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _compile(root: Path, sources: Mapping[str, str]) -> CompiledContracts:
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": dict(SETTINGS),
    }
    try:
        answer = solcx.compile_standard(request, solc_binary=_program(root))
    except (SolcError, OSError, ValueError) as error:
        raise CompilationError(f"the contracts do not compile: {_told(error)}") from error
    return {
        name: CompiledContract(
            abi=answer["contracts"][f"contracts/{name}.sol"][name]["abi"],
            bytecode=answer["contracts"][f"contracts/{name}.sol"][name]["evm"]["bytecode"][
                "object"
            ],
        )
        for name in CONTRACTS
    }


def _told(error: Exception) -> str:
    parts = (getattr(error, "message", ""), getattr(error, "stderr_data", ""))
    return "\n".join(part for part in parts if part) or str(error)


def _program(root: Path) -> Path:
    """Write the executable that py-solc-x is to run (see `chain.solc_process`)."""
    command = [sys.executable, solc_process.__file__, *_compiler(root)]
    program = root / "cache" / "python" / "solc"
    program.parent.mkdir(parents=True, exist_ok=True)
    with replacing(program) as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(map(str, command))} "$@"\n'.encode())
        os.fchmod(file.fileno(), 0o700)
    return program


def _compiler(root: Path) -> list[Path]:
    native = _native_compiler()
    if native is not None:
        return [native]
    beside_python = Path(sys.executable).with_name("node")
    node = beside_python if beside_python.exists() else shutil.which("node")
    program = root / "node_modules" / "solc" / "solc.js"
    if node is None or not program.exists():
        raise CompilationError(
            f"expected solc {SOLC_VERSION} from py-solc-x or on the path, or Node.js and "
            f"{program}; found neither: run `make setup`"
        )
    return [Path(node), program]


@functools.cache
def _native_compiler() -> Path | None:
    for candidate in _native_candidates():
        try:
            if str(get_solc_version(candidate)) == SOLC_VERSION:
                return candidate
        except (SolcError, OSError, ValueError):
            continue
    return None


def _native_candidates() -> list[Path]:
    on_path = shutil.which("solc")
    candidates = [Path(on_path)] if on_path and not _is_script(Path(on_path)) else []
    try:
        if SOLC_VERSION in map(str, solcx.get_installed_solc_versions()):
            candidates.insert(0, solcx.install.get_executable(SOLC_VERSION))
    except OSError:
        pass  # py-solc-x keeps its compilers in the home folder, and there may be none.
    return candidates


def _is_script(path: Path) -> bool:
    # solc-select, which slither brings, is a script that would download a compiler.
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _read(path: Path) -> CompiledContracts | None:
    try:
        kept = json.loads(path.read_bytes())
        return {name: CompiledContract(**kept[name]) for name in CONTRACTS}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, compiled: CompiledContracts) -> None:
    try:
        with replacing(path) as file:
            content = {name: asdict(contract) for name, contract in compiled.items()}
            file.write(json.dumps(content).encode())
    except OSError as error:
        raise CompilationError(f"{path} cannot be written: {error}") from error
