"""Journals of ledger heads: what a party has seen of a chain, in a file that only ever grows.

Each line is one head, with the witness that signed it where there is one, as canonical JSON. See
docs/protocol.md, section 13.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from audit.container import MAGIC, opened
from chain.addresses import read_address
from chain.canonical import canonical_json, parse_json
from chain.errors import InvalidInputError
from chain.signing import SIGNATURE_BYTES
from chain.types import CosignedHead, LedgerHead
from chain.wire import from_json_dict, to_json_dict

MAX_JOURNAL = 64 * 1024 * 1024  # bytes

_MAX_LINE = 4096  # bytes
_MAX_U64 = (1 << 64) - 1
_MEMBERS = frozenset({"chain_id", "head", "ledger", "signature", "witness"})

SeenHead: TypeAlias = LedgerHead | CosignedHead


class HeadJournal:
    """The heads of one ledger that a party has seen.

    A line that was not finished when its writer was killed counts for nothing.

    Args:
        path: The file; it and its folder are made with the first head.
        chain_id: The chain's number.
        ledger: The RoundLedger's address. Heads of other ledgers in the same file are passed over.

    Raises:
        InvalidInputError: If the file is no such journal.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, chain_id: int, ledger: str) -> None:
        self._path = path
        self._place = (chain_id, ledger)
        # In the order of writing, each once.
        self._heads = dict.fromkeys(_read_journal(path, *self._place) if path.exists() else ())

    @property
    def heads(self) -> tuple[SeenHead, ...]:
        """All heads in it, in the order of writing."""
        return tuple(self._heads)

    def append(self, one: SeenHead) -> None:
        """Add a head, unless it is there. It is on the disk when this returns.

        Raises:
            OSError: If it cannot be written.
        """
        if one in self._heads:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(_end_of_lines(file.seek(0, os.SEEK_END), self._path))
            file.write(_line(one, *self._place))
            file.flush()
            os.fsync(file.fileno())
        self._heads[one] = None


def read_heads(path: Path, chain_id: int, ledger: str) -> tuple[SeenHead, ...]:
    """Read the heads of a ledger that another party kept: from its journal, or from a bundle.

    Signatures are not checked here but by `check_heads`.

    Raises:
        BundleError: If the file begins as a bundle and is none.
        InvalidInputError: If the file is no journal, or holds no head of this ledger.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        is_bundle = file.read(len(MAGIC)) == MAGIC
    read = _read_bundle if is_bundle else _read_journal
    heads = tuple(read(path, chain_id, ledger))
    if not heads:
        message = f"{path}: expected heads of the ledger {ledger} on chain {chain_id}, found none"
        raise InvalidInputError(message)
    return heads


def head_of(one: SeenHead) -> LedgerHead:
    """Give the head itself, whoever signed it."""
    return one.head if isinstance(one, CosignedHead) else one


def _read_bundle(path: Path, chain_id: int, ledger: str) -> Iterator[SeenHead]:
    with opened(path) as bundle:
        if (bundle.header.chain_id, bundle.header.ledger) == (chain_id, ledger):
            yield from bundle.header.cosignatures


def _read_journal(path: Path, chain_id: int, ledger: str) -> Iterator[SeenHead]:
    size = path.stat().st_size
    if size > MAX_JOURNAL:
        message = f"{path}: expected a journal of at most {MAX_JOURNAL} bytes, found {size}"
        raise InvalidInputError(message)
    with path.open("rb") as file:
        number = 0
        while (line := file.readline(_MAX_LINE)).endswith(b"\n"):
            number += 1
            try:
                found_in, one = _parse(line)
            except InvalidInputError as error:
                message = f"{path}, line {number}: {error}"
                raise InvalidInputError(message) from error
            if found_in == (chain_id, ledger):
                yield one
    if len(line) == _MAX_LINE:
        message = f"{path}, line {number + 1}: expected at most {_MAX_LINE} bytes, found more"
        raise InvalidInputError(message)


def _parse(line: bytes) -> tuple[tuple[int, str], SeenHead]:
    members = parse_json(line, _MAX_LINE)
    if not isinstance(members, dict) or members.keys() != _MEMBERS:
        found = sorted(members) if isinstance(members, dict) else type(members).__name__
        message = f"expected the members {sorted(_MEMBERS)}, found {found}"
        raise InvalidInputError(message)
    chain_id, head = members["chain_id"], from_json_dict(LedgerHead, members["head"])
    if type(chain_id) is not int or max(head.number, head.blocks) > _MAX_U64:
        message = f"expected a chain id and numbers of 64 bits, found {repr(members)[:200]}"
        raise InvalidInputError(message)
    place = (chain_id, read_address(members["ledger"], "ledger"))
    if members["witness"] is None and members["signature"] is None:
        return place, head
    witness = read_address(members["witness"], "witness")
    return place, CosignedHead(head, witness, _signature(members["signature"]))


def _signature(text: object) -> bytes:
    try:
        signature = bytes.fromhex(text.removeprefix("0x")) if isinstance(text, str) else b""
    except ValueError:
        signature = b""
    if len(signature) != SIGNATURE_BYTES:
        message = f"signature: expected 0x and {2 * SIGNATURE_BYTES} digits, found {text!r:.160}"
        raise InvalidInputError(message)
    return signature


def _line(one: SeenHead, chain_id: int, ledger: str) -> bytes:
    members: dict[str, Any] = {
        "chain_id": chain_id,
        "head": to_json_dict(head_of(one)),
        "ledger": ledger,
        "signature": None,
        "witness": None,
    }
    if isinstance(one, CosignedHead):
        members |= {"signature": f"0x{one.signature.hex()}", "witness": one.witness}
    return canonical_json(members) + b"\n"


def _end_of_lines(size: int, path: Path) -> int:
    """Find where the last whole line of a file ends."""
    with path.open("rb") as file:
        tail = max(0, size - _MAX_LINE)
        file.seek(tail)
        return tail + file.read(size - tail).rfind(b"\n") + 1
