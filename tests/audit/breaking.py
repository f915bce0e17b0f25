"""Ways to break a bundle, and to repair every checksum in it afterwards, as an attacker would."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from chain import rlp
from chain.canonical import canonical_json

PREFIX = 12  # bytes of magic and length
DIGEST = 32  # bytes


@dataclass(frozen=True, slots=True)
class Region:
    """A run of bytes of one kind in a bundle."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle taken apart: its header as JSON, and its parts by name, in their order."""

    header: dict[str, Any]
    parts: dict[str, bytes]

    @classmethod
    def read(cls, data: bytes) -> "Opened":
        length = int.from_bytes(data[8:PREFIX], "big")
        header = json.loads(data[PREFIX : PREFIX + length])
        parts, position = {}, PREFIX + length
        for part in header["parts"]:
            parts[part["name"]] = data[position : position + int(part["size"])]
            position += int(part["size"])
        return cls(header, parts)

    def to_bytes(self, *, version_of: bytes = b"FWBUNDL1") -> bytes:
        """Write it with all checksums and sizes as they have to be."""
        parts = [
            {"name": name, "sha256": sha256(content).hexdigest(), "size": str(len(content))}
            for name, content in self.parts.items()
        ]
        text = canonical_json({**self.header, "parts": parts})
        body = version_of + len(text).to_bytes(4, "big") + text + b"".join(self.parts.values())
        return body + sha256(body).digest()


def flipped(data: bytes, bit: int) -> bytes:
    """Flip one bit."""
    broken = bytearray(data)
    broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def repaired(original: bytes, broken: bytes) -> bytes:
    """Make all checksums fit again, as far as the broken file still has the form of one."""
    length = int.from_bytes(original[8:PREFIX], "big")
    start = PREFIX + length
    if broken[:start] == original[:start]:
        was = Opened.read(original)
        parts, position = {}, start
        for name, content in was.parts.items():
            parts[name] = broken[position : position + len(content)]
            position += len(content)
        return Opened(was.header, parts).to_bytes()
    return broken[:-DIGEST] + sha256(broken[:-DIGEST]).digest()


def regions(data: bytes) -> Iterator[Region]:
    """Tell what each byte of a bundle is for."""
    yield Region("magic", 0, 8)
    yield Region("length of the header", 8, PREFIX)
    length = int.from_bytes(data[8:PREFIX], "big")
    yield from _header_regions(data, PREFIX, PREFIX + length)
    position = PREFIX + length
    for name, content in Opened.read(data).parts.items():
        if name == "ledger":
            yield from _ledger_regions(content, position)
        elif name == "keys":
            yield Region("keys", position, position + len(content))
        else:
            yield Region(_kind_of_blob(content), position, position + len(content))
        position += len(content)
    yield Region("trailer", position, position + DIGEST)


def bits_of(regions_: list[Region], count: int, seed: int) -> list[tuple[str, int]]:
    """Draw bits at random, as many of each kind of byte."""
    draw = random.Random(seed)  # noqa: S311 - nothing is kept secret
    kinds: dict[str, list[Region]] = {}
    for region in regions_:
        if region.end > region.start:
            kinds.setdefault(region.kind, []).append(region)
    each = -(-count // len(kinds))
    drawn = []
    for kind, places in sorted(kinds.items()):
        for _ in range(each):
            place = draw.choice(places)
            drawn.append((kind, draw.randrange(8 * place.start, 8 * place.end)))
    return drawn


def with_parts(path: Path, target: Path, **changes: bytes) -> Path:
    """Write a bundle with other parts, and fitting checksums."""
    was = Opened.read(path.read_bytes())
    target.write_bytes(Opened(was.header, {**was.parts, **changes}).to_bytes())
    return target


def _header_regions(data: bytes, start: int, end: int) -> Iterator[Region]:
    text = data[start:end].decode()
    names = sorted(json.loads(text))
    places = [start + text.index(f'"{name}":') for name in names]
    for name, place, next_ in zip(names, places, [*places[1:], end], strict=True):
        yield Region(f"header, {name}", place, next_)
    yield Region("header, brace", start, start + 1)


def _kind_of_blob(content: bytes) -> str:
    return "envelope" if content.startswith(b"FWENVLP1") else "model"


def _ledger_regions(part: bytes, start: int) -> Iterator[Region]:
    _, prefix, _ = rlp.read_prefix(part[:9])
    yield Region("ledger, prefix", start, start + prefix)
    position = prefix
    while position < len(part):
        _, block_prefix, length = rlp.read_prefix(part[position : position + 9])
        header_at = position + block_prefix
        _, header_prefix, header_length = rlp.read_prefix(part[header_at : header_at + 9])
        receipts_at = header_at + header_prefix + header_length
        end = header_at + length
        yield Region("ledger, prefix of a block", start + position, start + header_at)
        yield Region("ledger, block header", start + header_at, start + receipts_at)
        yield Region("ledger, receipts", start + receipts_at, start + end)
        # The places of transactions are few bytes, so they are a kind of their own.
        first = receipts_at + rlp.read_prefix(part[receipts_at : receipts_at + 9])[1]
        index = first + rlp.read_prefix(part[first : first + 9])[1]
        yield Region("ledger, place of a transaction", start + index, start + index + 1)
        position = end
