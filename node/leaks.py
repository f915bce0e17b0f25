"""The leak scan: what identified somebody in a file that came in, looked for in what goes out.

It was written apart from the remover and shares no table and no code with it, so that what one of
them forgot the other does not forget for the same reason. It asks the original what is identity by
kinds of value (persons, numbers, moments, places) and by where values stand, and then looks for
it in the result:

1. in every value, at every depth, private or not, without regard to case, accents and order;
2. in the bytes outside the pixels, in the character sets of DICOM, in UTF-8 and UTF-16;
3. in the bytes of the pixels, for what is too long to be there by chance;
4. in the result's name;
5. in what the pixels show: rows of strokes of one brightness, as print makes them.

What it finds it tells by place and kind, never by value.
"""

import logging
import re
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter  # type: ignore[import-untyped]

_ENCODINGS = (
    *("ascii", "latin-1", "iso8859-2", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8"),
    *("iso8859-9", "tis-620", "cp1252", "cp1251", "shift_jis", "iso2022_jp", "euc_jp", "euc_kr"),
    *("iso2022_kr", "gb18030", "gbk", "big5", "utf-8", "utf-16-le", "utf-16-be"),
)
_WELL_KNOWN = "1.2.840.10008."
_SHORTEST_UID = 8  # characters of one that says something
_TOO_SHORT = 4  # characters of a needle; less is found by chance
_TOO_SHORT_ALONE = 5  # of a single name that is looked for inside other words
_LONG_FOR_PIXELS = 10  # bytes; shorter ones occur among millions of random bytes
_TEXTUAL = {"AE", "AS", "CS", "DS", "IS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_PLACES = ("Institution", "Address", "Station", "Telephone", "Telecom", "Location", "Residence")
_NUMBERED = (
    "PatientID",
    "AccessionNumber",
    "AdmissionID",
    "SerialNumber",
    "OrderNumber",
    "Insurance",
)
# What many people share identifies nobody, and stands in headers for other reasons.
_SHARED = {"anonymous", "anonymized", "unknown", "hospital", "patient", "none", "test", "other"}
# What Diffusion Directionality (0018,9075) may say, and vendors say in attributes of their own.
_TERMS = {"directional", "bmatrix", "isotropic"}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_BITS_OF_A_BYTE = 8
_FIRST_FREE_PRIVATE = 0x1000  # elements from here on hold private values, not creators
_PATIENT = 0x0010


@dataclass(frozen=True, slots=True)
class Identities:
    """What identified somebody in one file.

    Attributes:
        names: Each person's names, as sets of words that stand for one person together.
        needles: Everything else, as text without case, accents, spaces and punctuation.
        uids: Identifiers of instances, series and the like.
        births: Dates that may not occur at all.
        moments: Every other date by the place where it stood.
        brief: Whole values that are too short to be looked for inside others.
        numbers: Those of the needles that number a person or a visit.
    """

    names: tuple[tuple[str, ...], ...] = ()
    needles: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()
    births: frozenset[str] = frozenset()
    moments: frozenset[tuple[str, str]] = frozenset()
    brief: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Leak:
    """One finding: where, and of which kind, in words that identify nobody."""

    place: str
    kind: str


def identities_in(path: Path, name: str = "") -> Identities:
    """Ask a DICOM file that came in what identifies somebody in it.

    Args:
        path: The file.
        name: The name that it had, where it is not that of the path.
    """
    dataset = _read(path)
    names: list[tuple[str, ...]] = []
    needles: set[str] = set()
    uids: set[str] = set()
    births: set[str] = set()
    moments: set[tuple[str, str]] = set()
    brief: set[str] = set()
    private: set[str] = set()
    numbers: set[str] = set()
    technical: set[str] = set()
    for place, element in _walk(dataset):
        kind, values = str(element.VR), [one for one in _texts(element) if one.strip()]
        if kind == "PN":
            for value in values:
                for group in value.split("="):
                    words = tuple(w for part in group.split("^")[:3] for w in _words(part))
                    if words and not set(words) <= _SHARED:
                        names.append(words)
        elif kind == "UI":
            uids |= {
                one
                for one in values
                if not one.startswith(_WELL_KNOWN) and len(one) > _SHORTEST_UID
            }
        elif kind in {"DA", "DT"}:
            found = {one[:8] for one in map(_bare, values) if re.fullmatch(r"\d{8}.*", one)}
            if element.tag.group == _PATIENT:
                births |= found
            moments |= {(place, one) for one in found}
        elif element.tag.is_private and element.tag.element >= _FIRST_FREE_PRIVATE:
            if kind not in {"DS", "IS", "FD", "FL", "SL", "SS", "UL", "US", "SV", "UV"}:  # measures
                private |= {_bare(one) for one in values if len(one) <= 256}  # noqa: PLR2004 - no blobs
        elif any(part in element.keyword for part in _PLACES + _NUMBERED):
            for one in map(_bare, values):
                (needles if len(one) > _TOO_SHORT else brief).add(one)
                if any(part in element.keyword for part in _NUMBERED):
                    numbers.add(one)
        elif kind in _TEXTUAL and element.tag.group == _PATIENT:
            needles |= {one for one in map(_bare, values) if len(one) > 2 * _TOO_SHORT}
        else:
            technical |= set(map(_bare, values))
    told = " ".join(technical)
    # A private value that the standard's own attributes tell as well is a technical term.
    needles |= {
        one for one in private if len(one) > _TOO_SHORT + 1 and one not in told and _is_word(one)
    }
    stem = _bare(Path(name or path.name).stem)
    if len(re.findall(r"\d", stem)) > _TOO_SHORT + 1:
        needles.add(stem)
    needles -= _SHARED | _TERMS
    return Identities(
        tuple(dict.fromkeys(names)),
        frozenset(one for one in needles if len(one) > _TOO_SHORT),
        frozenset(uids),
        frozenset(births),
        frozenset(moments),
        frozenset(one for one in brief if one),
        frozenset(one for one in numbers if len(one) > _TOO_SHORT),
    )


def leaks_in(path: Path, identities: Identities) -> tuple[Leak, ...]:
    """Look for identities in a DICOM file that is to go out."""
    dataset = _read(path)
    found: dict[Leak, None] = {}
    offsets: set[int] = set()
    former = dict(identities.moments)
    explained: dict[str, int] = {}
    for place, element in _walk(dataset):
        kind = str(element.VR)
        for value in _texts(element):
            if kind in {"DA", "DT"}:
                day = _bare(value)[:8]
                explained[day] = explained.get(day, 0) + 1
                if day in identities.births or former.get(place) == day:
                    found[Leak(place, "date")] = None
                elif place in former:
                    offsets |= _days_between(former[place], day)
            elif kind == "UI":
                if value in identities.uids:
                    found[Leak(place, "uid")] = None
            elif kind == "TM":
                continue
            else:
                for what in _in_text(value, kind, identities):
                    found[Leak(place, what)] = None
    if len(offsets) > 2:  # noqa: PLR2004 - times move a date over midnight, or not
        found[Leak("file", "dates that were not shifted alike")] = None
    for leak in _in_bytes(path, dataset, identities, explained):
        found[leak] = None
    for what in _in_text(path.name, "LO", identities):
        found[Leak("name", what)] = None
    if shows_print(dataset):
        found[Leak("pixels", "print")] = None
    return tuple(found)


def leaks_in_bytes(content: bytes, identities: Identities) -> tuple[Leak, ...]:
    """Look for identities in the bytes of a file of any other kind."""
    lowered = content.lower()
    return tuple(
        dict.fromkeys(
            Leak("bytes", what)
            for what, needle in _raw_needles(identities)
            if len(needle) >= _LONG_FOR_PIXELS and needle in lowered
        )
    )


def to_json(identities: Identities) -> dict[str, Any]:
    """Return identities as JSON has them, to be kept beside the hospital's key."""
    return {
        "names": [list(name) for name in identities.names],
        "needles": sorted(identities.needles),
        "uids": sorted(identities.uids),
        "births": sorted(identities.births),
        "moments": sorted(map(list, identities.moments)),
        "brief": sorted(identities.brief),
        "numbers": sorted(identities.numbers),
    }


def from_json(told: dict[str, Any]) -> Identities:
    """Read identities back."""
    return Identities(
        tuple(tuple(name) for name in told.get("names", ())),
        frozenset(told.get("needles", ())),
        frozenset(told.get("uids", ())),
        frozenset(told.get("births", ())),
        frozenset((place, day) for place, day in told.get("moments", ())),
        frozenset(told.get("brief", ())),
        frozenset(told.get("numbers", ())),
    )


def of_everybody(each: Iterator[Identities]) -> Identities:
    """Sum up what tells somebody wherever it stands: whole names, and numbers of persons."""
    names: set[tuple[str, ...]] = set()
    numbers: set[str] = set()
    for one in each:
        names |= {name for name in one.names if len([w for w in name if len(w) > 2]) > 1}  # noqa: PLR2004
        numbers |= {number for number in one.numbers if len(number) > _TOO_SHORT + 1}
    return Identities(tuple(names), numbers=frozenset(numbers))


def strangers_in(path: Path, everybody: Identities) -> tuple[Leak, ...]:
    """Look in a DICOM file for whole names and numbers of anybody who came in, word by word."""
    dataset = _read(path)
    found: dict[Leak, None] = {}
    for place, element in _walk(dataset):
        if str(element.VR) not in _TEXTUAL - {"DS", "IS"}:
            continue
        for value in _texts(element):
            words = set(_words(value))
            if words & everybody.numbers or _bare(value) in everybody.numbers:
                found[Leak(place, "number")] = None
            if len(words) > 1 and any(set(name) <= words for name in everybody.names):
                found[Leak(place, "name")] = None
    return tuple(found)


def leaks_in_text(text: str, own: Identities, everybody: Identities) -> tuple[str, ...]:
    """Look in a text that somebody writes about an image for whom the image came from.

    Args:
        text: Prose, a name or a number.
        own: What identified somebody in the image's file; its names, numbers and days count.
        everybody: Whole names and numbers of whoever else came in, as `of_everybody` sums them up.

    Returns:
        The kinds of what was found, each once.
    """
    telling = Identities(own.names, births=own.births, moments=own.moments)
    found = dict.fromkeys(_in_text(text, "LT", telling))
    words, bare = set(_words(text)), _bare(text)
    numbers = own.numbers | everybody.numbers
    if words & numbers or bare in numbers:
        found["number"] = None
    if any(len(name) > 1 and set(name) <= words for name in everybody.names):
        found["name"] = None
    return tuple(found)


def text_identities(texts: list[str]) -> Identities:
    """Take texts of a header, such as a NIfTI file's, as identities, word for word."""
    bare = frozenset(one for one in map(_bare, texts) if len(one) > 2 * _TOO_SHORT)
    return Identities(needles=bare)


def shows_print(dataset: pydicom.Dataset) -> bool:
    """Tell whether an image shows what looks like rows of print."""
    if "PixelData" not in dataset or dataset.get("BitsAllocated") not in {8, 16}:
        return False
    with _silence():
        pixels = dataset.pixel_array
    colours = int(dataset.get("SamplesPerPixel", 1)) > 1
    frames = pixels if pixels.ndim == 3 + colours else pixels[None]
    return any(is_print(frame) for frame in frames)


def is_print(frame: NDArray[Any]) -> bool:
    """Tell whether one frame shows a row of print, by how often saturated strokes come and go.

    The brightest (or darkest) twentieth of the range is taken as ink. A row of print has, over a
    window five times as wide as high, ink that changes many times along each of its lines, covers
    between a tenth and a half of it, is drawn in strokes and not in dots, and stands on lines of
    paper without ink above and below.
    """
    planes = np.atleast_3d(frame).astype(np.float32)
    low, high = float(planes.min()), float(planes.max())
    if high <= low or min(planes.shape[:2]) < 32:  # noqa: PLR2004 - pixels of a side
        return False
    for number in range(planes.shape[2]):
        plane = (planes[:, :, number] - low) / (high - low)
        for ink in (plane >= 0.95, plane <= 0.05):  # noqa: PLR2004
            if 0.0005 < ink.mean() < 0.25 and _has_rows(ink):  # noqa: PLR2004 - print is sparse
                return True
    return False


def _has_rows(ink: NDArray[np.bool_]) -> bool:
    changes = np.zeros(ink.shape, dtype=np.float32)
    changes[:, 1:] = ink[:, 1:] != ink[:, :-1]
    filled = ink.astype(np.float32)
    beside = np.zeros_like(ink)
    beside[1:] |= ink[:-1]
    beside[:-1] |= ink[1:]
    strokes = (ink & beside).astype(np.float32)  # noise has few dots one above the other
    for height in (7, 10, 14, 20, 28, 40):
        width = 5 * height
        if ink.shape[0] < height + 4 or ink.shape[1] < width:
            continue
        window = (height, width)
        often = uniform_filter(changes, window, mode="constant") * width
        cover = uniform_filter(filled, window, mode="constant")
        drawn = uniform_filter(strokes, window, mode="constant") > 0.8 * cover
        # Blank lines right above and below, as wide as the window.
        line = uniform_filter(filled, (1, width), mode="constant") < 0.5 / width
        half = height // 2 + 1
        above = np.zeros_like(line)
        above[half:] = line[:-half]
        below = np.zeros_like(line)
        below[:-half] = line[half:]
        if (above & below & drawn & (often > 6.0) & (cover > 0.1) & (cover < 0.5)).any():  # noqa: PLR2004
            return True
    return False


def _in_text(value: str, kind: str, identities: Identities) -> Iterator[str]:
    words = set(_words(value))
    bare = _bare(value)
    if not bare:
        return
    for name in identities.names:
        told = [one for one in name if len(one) > 1]
        joined = ("".join(told), "".join(reversed(told)))
        if (
            (len(told) > 1 and set(told) <= words)
            or (kind != "CS" and any(_telling(one) and one in words for one in told))
            or (
                len(told) > 1
                and len(joined[0]) > _TOO_SHORT_ALONE
                and any(j in bare for j in joined)
            )
            or (kind != "CS" and any(len(one) > _TOO_SHORT_ALONE and one in bare for one in told))
        ):
            yield "name"
    if kind in {"DS", "IS"}:
        if bare in identities.numbers:
            yield "number"
        return
    if any(one in bare for one in identities.needles):
        yield "number, place or private value"
    if kind in {"LO", "SH", "PN"} and bare in identities.brief and not bare.isdigit():
        yield "number, place or private value"
    for day in identities.births | {one for _, one in identities.moments}:
        if any(one in value.lower() for one in _written(day)):
            yield "date"


def _in_bytes(
    path: Path, dataset: pydicom.Dataset, identities: Identities, explained: dict[str, int]
) -> Iterator[Leak]:
    content = path.read_bytes()
    pixels = b"".join(
        bytes(dataset[one].value)
        for one in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
        if one in dataset and isinstance(dataset[one].value, bytes)
    )
    place = content.rfind(pixels) if pixels else -1
    header = content if place < 0 else content[:place] + content[place + len(pixels) :]
    lowered, dots = header.lower(), pixels.lower()
    for what, needle in _raw_needles(identities):
        if needle in lowered:
            yield Leak("bytes", what)
        if len(needle) >= _LONG_FOR_PIXELS and needle in dots:
            yield Leak("pixels", what)
    for day in identities.births | {one for _, one in identities.moments}:
        # Another moment may by chance have come to fall on this day, and is told in a date.
        if header.count(day.encode()) > explained.get(day, 0):
            yield Leak("bytes", "date")
        for encoding in ("utf-16-le", "utf-16-be"):
            if day.encode(encoding) in header:
                yield Leak("bytes", "date")


def _raw_needles(identities: Identities) -> Iterator[tuple[str, bytes]]:
    for name in identities.names:
        told = [one for one in name if len(one) > 1]
        spelled = {one for one in told if _telling(one) or not one.isascii()}
        if len(told) > 1:
            for one in (told, told[::-1]):
                spelled |= {gap.join(one) for gap in ("^", " ", ", ", ",", "_", "", ".")}
        for text in spelled:
            yield from (("name", raw) for raw in _encoded(text))
    for needle in identities.needles:
        if needle.isdigit() and needle not in identities.numbers:
            continue  # measures are made of such bytes; in texts it was looked for
        yield from (("number, place or private value", raw) for raw in _encoded(needle))
    for uid in identities.uids:
        yield "uid", uid.encode("ascii", "ignore")


def _encoded(text: str) -> set[bytes]:
    found = set()
    for encoding in _ENCODINGS:
        try:
            raw = text.encode(encoding).lower()
        except UnicodeError:
            continue
        if len(raw) > _TOO_SHORT:
            found.add(raw)
    return found


def _telling(word: str) -> bool:
    """Tell whether a single name is long enough to say whom it means."""
    return len(word) > _TOO_SHORT and word not in _SHARED


def _written(day: str) -> set[str]:
    """Give the ways in which a date (YYYYMMDD) is written."""
    year, month, number = day[:4], day[4:6], day[6:8]
    ways = {day, number + month + year, month + number + year}
    for gap in "-./ ":
        ways |= {gap.join(one) for one in ((year, month, number), (number, month, year))}
        ways.add(gap.join((month, number, year)))
    if "01" <= month <= "12":
        name = _MONTHS[int(month) - 1]
        plain = number.lstrip("0") or number
        for gap in "- ./":
            ways |= {gap.join((one, name, year)) for one in (number, plain)}
        ways |= {f"{name} {one}, {year}" for one in (number, plain)}
    return ways


def _days_between(before: str, after: str) -> set[int]:
    try:
        first, second = (date(int(d[:4]), int(d[4:6]), int(d[6:8])) for d in (before, after))
    except ValueError:
        return set()
    return {(first - second).days}


def _bare(text: str) -> str:
    return "".join(_words(text))


def _words(text: str) -> list[str]:
    spread = unicodedata.normalize("NFKD", text).casefold()
    marks = "".join(char for char in spread if unicodedata.category(char) != "Mn")
    return re.findall(r"[^\W_]+", marks)


def _is_word(text: str) -> bool:
    return any(char.isalpha() for char in text) or len(text) > _TOO_SHORT + 2


def _texts(element: pydicom.DataElement) -> list[str]:
    value = element.value
    if isinstance(value, bytes):
        # Whatever can be read as text in bytes of no known kind; numbers give scraps, no words.
        return [run.decode("ascii") for run in re.findall(rb"[ -~]{5,}", value[:65_536])]
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        return [str(one) for one in value if one is not None]
    return [] if value is None else [str(value)]


def _walk(dataset: pydicom.Dataset, above: str = "") -> Iterator[tuple[str, pydicom.DataElement]]:
    meta = getattr(dataset, "file_meta", None) if not above else None
    for element in (*(meta or ()), *dataset):
        place = f"{above}{element.tag.group:04X}{element.tag.element:04X}"
        if isinstance(element.value, pydicom.Sequence):
            for number, item in enumerate(element.value):
                yield from _walk(item, f"{place}[{number}].")
        elif element.tag.group != 0x7FE0:  # noqa: PLR2004 - pixels are looked at as bytes
            yield place, element


def _read(path: Path) -> pydicom.FileDataset:
    with _silence():
        dataset = pydicom.dcmread(path, force=True)
        for _ in _walk(dataset):
            pass
        dataset.decode()
    return dataset


class _silence:  # noqa: N801 - reads as the verb that it is
    """Keeps what pydicom says about values from being told."""

    def __enter__(self) -> None:
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")
        self._log = logging.getLogger("pydicom")
        self._level = self._log.level
        self._log.setLevel(logging.CRITICAL + 1)

    def __exit__(self, *_: object) -> None:
        self._log.setLevel(self._level)
        self._caught.__exit__(None, None, None)
