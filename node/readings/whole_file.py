"""Whether a DICOM file is whole: every length within it, down to its last byte.

A parser that is lenient with files cut short would let a report lose its last lines unnoticed.
PS3.5, section 7, Little Endian, Explicit and Implicit VR.
"""

import struct

from chain.errors import InvalidInputError

_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
_DELIMITERS = 0xFFFE  # group of items and their ends
_PREAMBLE = 132  # bytes, with DICM
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
_DEEPEST = 64


def check_whole(raw: bytes, *, implicit: bool) -> None:
    """Check that a file's elements end where the file does.

    Args:
        raw: The file, with preamble.
        implicit: Whether its data set says no kinds of values.

    Raises:
        InvalidInputError: If an element is cut, or an end is missing.
    """
    meta = _PREAMBLE + len(_GROUP_LENGTH)
    if raw[_PREAMBLE:meta] != _GROUP_LENGTH:
        raise InvalidInputError("expected a DICOM file with the length of its header, found none")
    place = meta + 4 + int.from_bytes(raw[meta : meta + 4], "little")
    try:
        while place < len(raw):
            place, _ = _pass_over(raw, place, implicit, 0)
    except struct.error:
        place = len(raw) + 1
    if place != len(raw):
        raise InvalidInputError("the DICOM file is cut short: fetch or export it again")


def _pass_over(raw: bytes, place: int, implicit: bool, depth: int) -> tuple[int, int]:
    """Return where the next element begins, and which delimiter this one was, or 0."""
    if depth > _DEEPEST:
        raise InvalidInputError(f"expected sequences nested at most {_DEEPEST} deep, found more")
    group, element = struct.unpack_from("<HH", raw, place)
    if group == _DELIMITERS or implicit:
        (length,) = struct.unpack_from("<I", raw, place + 4)
        place, within = place + 8, implicit
    elif raw[place + 4 : place + 6] in _LONG:
        (length,) = struct.unpack_from("<I", raw, place + 8)
        # What is of unknown kind and undefined length is written without kinds (PS3.5, 6.2.2).
        within = raw[place + 4 : place + 6] == b"UN"
        place += 12
    else:
        (length,) = struct.unpack_from("<H", raw, place + 6)
        place, within = place + 8, False
    delimiter = element if group == _DELIMITERS else 0
    if length != _UNDEFINED:
        if length > len(raw) - place:
            raise InvalidInputError("the DICOM file is cut short: fetch or export it again")
        return place + length, delimiter
    end = _ITEM_END if delimiter == _ITEM else _SEQUENCE_END
    found = 0
    while found != end:
        place, found = _pass_over(raw, place, within, depth + 1)
    return place, delimiter
