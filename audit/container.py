"""The file of an audit bundle: a header, named parts, and checksums over all of it.

See docs/protocol.md, section 14. Pure. No length that the file states is used before it is held
against the file's true size, and no part is ever read whole.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from chain.addresses import address_order, read_address
from chain.canonical import canonical_json, parse_json
from chain.cid import Cid
from chain.errors import BundleError, InvalidInputError
from chain.files import PIECE, replacing
from chain.signing import SIGNATURE_BYTES
from chain.types import CosignedHead, LedgerHead

MAGIC: Final = b"FWBUNDL1"
VERSION: Final = 1
MAX_HEADER: Final = 1 << 20  # bytes
MAX_KEYS: Final = 1 << 22  # bytes of the part `keys`
MAX_COSIGNATURES: Final = 32  # as many witnesses as a round can have; each takes a recovery
LEDGER: Final = "ledger"
KEYS: Final = "keys"
BLOB: Final = "blob/"

_PREFIX = len(MAGIC) + 4
_DIGEST = 32  # bytes
_MEMBERS = frozenset(
    {
        "chain_id",
        "cosignatures",
        "datasets",
        "head",
        "ledger",
        "mode",
        "model",
        "participants",
        "parts",
        "round",
        "version",
    }
)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_U64 = 1 << 64
_U256 = 1 << 256


class Mode(Enum):
    """What a bundle holds: the ledger alone, or models and envelopes as well."""

    LIGHT = "light"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the file: its name, the SHA-256 of its bytes, and how many they are."""

    name: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class BundleHeader:
    """What a bundle says of itself.

    Attributes:
        chain_id: The chain.
        ledger: The RoundLedger's address.
        participants: The ParticipantRegistry's address.
        datasets: The DatasetRegistry's address.
        model: The content digest of the model that it is about.
        head: The ledger's head when that model became final.
        cosignatures: Witnesses' signatures over the head, ascending by address.
        mode: Whether blobs are in it.
        parts: What it is made of, in the order of the file.
    """

    chain_id: int
    ledger: str
    participants: str
    datasets: str
    model: bytes
    head: LedgerHead
    cosignatures: tuple[CosignedHead, ...]
    mode: Mode
    parts: tuple[Part, ...]

    def to_bytes(self) -> bytes:
        """Write all that precedes the parts.

        Raises:
            InvalidInputError: If there are too many parts.
        """
        text = canonical_json(
            {
                "chain_id": str(self.chain_id),
                "cosignatures": [
                    {"signature": one.signature.hex(), "witness": one.witness}
                    for one in self.cosignatures
                ],
                "datasets": self.datasets,
                "head": {
                    "blocks": str(self.head.blocks),
                    "hash": self.head.hash.hex(),
                    "history": self.head.history.hex(),
                    "number": str(self.head.number),
                },
                "ledger": self.ledger,
                "mode": self.mode.value,
                "model": self.model.hex(),
                "participants": self.participants,
                "parts": [
                    {"name": one.name, "sha256": one.sha256.hex(), "size": str(one.size)}
                    for one in self.parts
                ],
                "round": str(self.head.round),
                "version": VERSION,
            }
        )
        if len(text) > MAX_HEADER:
            message = (
                f"expected a header of at most {MAX_HEADER} bytes, found {len(text)}: the task has "
                "too many models and envelopes for one bundle; a light one has room"
            )
            raise InvalidInputError(message)
        return MAGIC + len(text).to_bytes(4, "big") + text


class BundleFile:
    """A bundle that is open. Its form is that of a bundle; no checksum was compared yet.

    Args:
        file: The file, which stays the caller's to close.
        header: What it says of itself.
        start: Where its first part begins.
    """

    def __init__(self, file: BinaryIO, header: BundleHeader, start: int) -> None:
        self._file = file
        self._header_bytes = header.to_bytes()
        self.header = header
        self._places: dict[str, tuple[int, int]] = {}
        for part in header.parts:
            self._places[part.name] = (start, part.size)
            start += part.size
        self._end = start

    def has(self, name: str) -> bool:
        """Tell whether there is a part of this name."""
        return name in self._places

    def size(self, name: str) -> int:
        """Tell a part's size in bytes."""
        return self._places[name][1]

    def stream(self, name: str) -> Iterator[bytes]:
        """Yield a part's bytes in pieces.

        Raises:
            BundleError: If the file was cut meanwhile.
        """
        size = self.size(name)
        for offset in range(0, size, PIECE):
            yield self.read(name, offset, min(size - offset, PIECE))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Read some bytes of a part, all of which must lie in it.

        Raises:
            BundleError: If they do not, or the file was cut meanwhile.
        """
        start, size = self._places[name]
        if offset + length > size:
            message = (
                f"part {name}: expected {length} bytes behind byte {offset}, "
                f"found {max(0, size - offset)}"
            )
            raise BundleError(message)
        self._file.seek(start + offset)
        found = self._file.read(length)
        if len(found) != length:
            message = f"part {name}: the file ends before it"
            raise BundleError(message)
        return found

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Compare every checksum with the bytes.

        Yields:
            What is not whole, the SHA-256 that the file states, and that of its bytes.
        """
        whole = hashlib.sha256(self._header_bytes)
        for part in self.header.parts:
            own = hashlib.sha256()
            for piece in self.stream(part.name):
                own.update(piece)
                whole.update(piece)
            if own.digest() != part.sha256:
                yield f"part {part.name}", part.sha256.hex(), own.hexdigest()
        self._file.seek(self._end)
        stated = self._file.read(_DIGEST)
        if stated != whole.digest():
            yield "file", stated.hex(), whole.hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[BundleFile]:
    """Open a bundle and check its form; the file is closed when the block ends.

    Raises:
        BundleError: If it is none, or its form is not that of docs/protocol.md, section 14.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(_PREFIX)
        if len(prefix) < _PREFIX or not prefix.startswith(MAGIC):
            message = f"expected a file that begins {MAGIC.decode()}, found {prefix[:8]!r}"
            raise BundleError(message)
        length = int.from_bytes(prefix[len(MAGIC) :], "big")
        if length > MAX_HEADER or _PREFIX + length + _DIGEST > size:
            message = (
                f"expected a header of at most {MAX_HEADER} bytes in a file of {size}, "
                f"found one of {length}"
            )
            raise BundleError(message)
        text = file.read(length)
        header = _read_header(text)
        if header.to_bytes() != prefix + text:
            message = "expected the header in canonical JSON (RFC 8785), found another form"
            raise BundleError(message)
        expected = _PREFIX + length + sum(part.size for part in header.parts) + _DIGEST
        if expected != size:
            message = f"expected a file of {expected} bytes, as its header says, found {size}"
            raise BundleError(message)
        yield BundleFile(file, header, _PREFIX + length)


def write_bundle(
    path: Path,
    header: Callable[[tuple[Part, ...]], BundleHeader],
    contents: Sequence[tuple[str, Path]],
) -> int:
    """Write a bundle, which appears whole or not at all.

    Args:
        path: Where it goes; what was there is replaced.
        header: Makes the header once the parts are known.
        contents: The parts' names and the files with their bytes, in the order of the bundle.

    Returns:
        Its size in bytes.

    Raises:
        InvalidInputError: If there are too many parts.
        OSError: If a file cannot be read or written.
    """
    parts = tuple(_part(name, file) for name, file in contents)
    head = header(parts).to_bytes()
    whole = hashlib.sha256(head)
    with replacing(path) as target:
        target.write(head)
        for _, source in contents:
            for piece in _pieces(source):
                whole.update(piece)
                target.write(piece)
        target.write(whole.digest())
        return target.tell()


def _part(name: str, path: Path) -> Part:
    hasher, size = hashlib.sha256(), 0
    for piece in _pieces(path):
        hasher.update(piece)
        size += len(piece)
    return Part(name, hasher.digest(), size)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _read_header(text: bytes) -> BundleHeader:
    try:
        return _header(parse_json(text, MAX_HEADER))
    except (InvalidInputError, ValueError, LookupError, TypeError, AttributeError) as error:
        message = f"the header is not that of docs/protocol.md, section 14: {error}"
        raise BundleError(message) from error


def _header(value: object) -> BundleHeader:
    members = _object(value, _MEMBERS, "header")
    if members["version"] != VERSION or type(members["version"]) is not int:
        message = f"expected version {VERSION}, found {members['version']!r:.40}"
        raise ValueError(message)
    place = _object(members["head"], {"blocks", "hash", "history", "number"}, "head")
    head = LedgerHead(
        round=_number(members["round"], _U256),
        number=_number(place["number"], _U64),
        hash=_bytes(place["hash"], _DIGEST),
        blocks=_number(place["blocks"], _U64),
        history=_bytes(place["history"], _DIGEST),
    )
    mode = Mode(members["mode"])
    parts = tuple(_read_part(one) for one in _list(members["parts"]))
    _check_names([part.name for part in parts], mode)
    signed = _list(members["cosignatures"])
    if len(signed) > MAX_COSIGNATURES:
        message = f"expected at most {MAX_COSIGNATURES} cosignatures, found {len(signed)}"
        raise ValueError(message)
    cosignatures = tuple(_cosignature(head, one) for one in signed)
    for one, next_ in pairwise(cosignatures):
        if address_order(one.witness) >= address_order(next_.witness):
            message = "expected the cosignatures ascending by witness, each once"
            raise ValueError(message)
    return BundleHeader(
        chain_id=_number(members["chain_id"], _U64),
        ledger=read_address(members["ledger"], "ledger"),
        participants=read_address(members["participants"], "participants"),
        datasets=read_address(members["datasets"], "datasets"),
        model=_bytes(members["model"], _DIGEST),
        head=head,
        cosignatures=cosignatures,
        mode=mode,
        parts=parts,
    )


def _check_names(names: Sequence[str], mode: Mode) -> None:
    """Require the one order of parts: the ledger, in full mode blobs ascending, and the keys."""
    blobs = [name for name in names if name.startswith(BLOB)]
    with_keys = [KEYS] if names and names[-1] == KEYS else []
    if list(names) != [LEDGER, *blobs, *with_keys]:
        message = f"expected the parts {LEDGER}, {BLOB}… and {KEYS}, found {names!r:.200}"
        raise ValueError(message)
    if blobs != sorted(set(blobs)):
        message = "expected the blobs ascending, each once"
        raise ValueError(message)
    if mode is Mode.LIGHT and len(names) > 1:
        message = "expected no blobs and no keys in a light bundle"
        raise ValueError(message)
    for name in blobs:
        Cid.parse(name.removeprefix(BLOB))


def _read_part(value: object) -> Part:
    members = _object(value, {"name", "sha256", "size"}, "part")
    size = _number(members["size"], _U64)
    return Part(_text(members["name"]), _bytes(members["sha256"], _DIGEST), size)


def _cosignature(head: LedgerHead, value: object) -> CosignedHead:
    members = _object(value, {"signature", "witness"}, "cosignature")
    witness = read_address(members["witness"], "witness")
    return CosignedHead(head, witness, _bytes(members["signature"], SIGNATURE_BYTES))


def _object(value: object, names: Iterable[str], what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        found = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        message = f"{what}: expected the members {sorted(names)}, found {found!r:.200}"
        raise ValueError(message)
    return cast("Mapping[str, Any]", value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        message = f"expected a list, found {type(value).__name__}"
        raise TypeError(message)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        message = f"expected a text, found {type(value).__name__}"
        raise TypeError(message)
    return value


def _number(value: object, limit: int) -> int:
    text = _text(value)
    if not _DECIMAL.fullmatch(text) or int(text) >= limit:
        message = f"expected a number below {limit} as a decimal string, found {text!r:.100}"
        raise ValueError(message)
    return int(text)


def _bytes(value: object, size: int) -> bytes:
    text = _text(value)
    if not _HEX.fullmatch(text) or len(text) != 2 * size:
        message = f"expected {size} bytes in lower-case hexadecimal, found {text!r:.140}"
        raise ValueError(message)
    return bytes.fromhex(text)
