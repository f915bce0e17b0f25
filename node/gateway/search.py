"""QIDO-RS: searching among the instances that a researcher may see (DICOM PS3.18, section 8.3.4).

Whatever is counted or listed is counted and listed among those alone.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.gateway.attributes import INSTANCE, SERIES, STUDY, tag_of
from node.gateway.catalogue import Instance

MAX_RESULTS = 1000
MAX_PARAMETERS = 32
MAX_VALUE = 1024  # characters
_LEVELS = {"studies": STUDY, "series": SERIES, "instances": INSTANCE}
_RANGES = frozenset({"DA", "TM", "DT"})
_MODALITY, _MODALITIES = "00080060", "00080061"
_RETRIEVE = "00081190"


class QueryError(Exception):
    """The query cannot be understood; the message says what of it."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search.

    Attributes:
        level: ``studies``, ``series`` or ``instances``.
        matches: Tags, each with the value to match.
        limit: The most results.
        offset: How many results are passed over.
        is_fuzzy: Whether names were to be matched by what they are like; they are not.
    """

    level: str
    matches: tuple[tuple[str, str], ...]
    limit: int
    offset: int
    is_fuzzy: bool = False


def read_query(level: str, parameters: Sequence[tuple[str, str]]) -> Query:
    """Read the parameters of a search.

    Raises:
        QueryError: If there are too many, or one is unknown or malformed.
    """
    if len(parameters) > MAX_PARAMETERS:
        raise QueryError(f"expected at most {MAX_PARAMETERS} parameters")
    limit, offset, is_fuzzy, matches = MAX_RESULTS, 0, False, []
    for name, value in parameters:
        if len(value) > MAX_VALUE:
            raise QueryError(f"expected values of at most {MAX_VALUE} characters")
        match name:
            case "limit":
                limit = min(_number(name, value), MAX_RESULTS)
            case "offset":
                offset = _number(name, value)
            case "fuzzymatching":
                if value not in {"true", "false"}:
                    raise QueryError(f"{name}: expected true or false")
                is_fuzzy = value == "true"
            case "includefield":
                # Everything that is kept to search by is told anyway, and nothing else ever.
                if value != "all" and not all(map(_is_attribute, value.split(","))):
                    raise QueryError(f"{name}: expected attributes, or all")
            case _:
                matches.append((_known(name), value))
    return Query(level, tuple(matches), limit, offset, is_fuzzy)


def search(
    query: Query, visible: Iterable[Instance], root: str
) -> tuple[list[dict[str, Any]], int]:
    """Search.

    Args:
        query: What for.
        visible: What the researcher may see, of the study or series that is asked about.
        root: URL of the service, which results begin their addresses with.

    Returns:
        The page of results in DICOM JSON, and how many more there are behind it.
    """
    groups: dict[tuple[str, ...], list[Instance]] = {}
    for one in visible:
        groups.setdefault(_key(query.level, one), []).append(one)
    results = (_result(query.level, found, root) for _, found in sorted(groups.items()))
    matching = [one for one in results if all(_matches(one, *match) for match in query.matches)]
    page = matching[query.offset : query.offset + query.limit]
    return page, max(0, len(matching) - query.offset - len(page))


def _known(name: str) -> str:
    tag = tag_of(name)
    if tag in STUDY | SERIES | INSTANCE or tag == _MODALITIES:
        return tag
    # Passing over a condition would find what was not asked for.
    raise QueryError("expected a parameter that this server matches; the guide lists them")


def _is_attribute(name: str) -> bool:
    return all(tag_of(part) for part in name.split("."))  # a path leads into sequences


def _number(name: str, value: str) -> int:
    if re.fullmatch("[0-9]{1,9}", value, re.ASCII) is None:
        raise QueryError(f"{name}: expected a number")
    return int(value)


def _key(level: str, one: Instance) -> tuple[str, ...]:
    parts = (one.study, one.series, one.uid)
    return parts[: list(_LEVELS).index(level) + 1]


def _result(level: str, found: Sequence[Instance], root: str) -> dict[str, Any]:
    first = found[0]
    depth = list(_LEVELS).index(level)
    wanted = frozenset().union(*list(_LEVELS.values())[: depth + 1])
    result = {tag: told for tag, told in first.attributes.items() if tag in wanted}
    url = f"{root}/studies/{first.study}"
    if depth == 0:
        modalities = sorted(
            {
                str(_values(one.attributes.get("00080060"))[0])
                for one in found
                if _values(one.attributes.get("00080060"))
            }
        )
        result[_MODALITIES] = {"vr": "CS", "Value": modalities}
        result["00201206"] = {"vr": "IS", "Value": [len({one.series for one in found})]}
        result["00201208"] = {"vr": "IS", "Value": [len(found)]}
    if depth >= 1:
        url += f"/series/{first.series}"
    if depth == 1:
        result["00201209"] = {"vr": "IS", "Value": [len(found)]}
    if depth == 2:  # noqa: PLR2004 - the deepest
        url += f"/instances/{first.uid}"
    result[_RETRIEVE] = {"vr": "UR", "Value": [url]}
    return dict(sorted(result.items()))


def _matches(result: Mapping[str, Any], tag: str, wanted: str) -> bool:
    """Tell whether a result has an attribute with a value (PS3.4, section C.2.2.2)."""
    if wanted in {"", "*"}:
        return True
    told = result.get(tag)
    found = [_text(value) for value in _values(told)]
    if told is None or not found:
        return False
    kind = str(told["vr"])
    if kind == "UI":
        return any(value in re.split(r"[,\\]", wanted) for value in found)
    if kind in _RANGES and "-" in wanted:
        low, _, high = wanted.partition("-")
        return any(
            (not low or value >= low) and (not high or value <= high + "~") for value in found
        )
    fits = _pattern(wanted, folded=kind == "PN")
    return any(fits(value) for value in found)


def _pattern(wanted: str, *, folded: bool) -> Callable[[str], bool]:
    """Match ``*`` and ``?`` in time that grows with the lengths alone, whatever is asked."""
    if folded:
        wanted = wanted.casefold()
    parts = wanted.split("*")

    def fits(value: str) -> bool:
        if folded:
            value = value.casefold()
        if len(parts) == 1:
            return len(value) == len(wanted) and _at(value, wanted, 0)
        first, *middle, last = parts
        if len(first) + len(last) > len(value) or not _at(value, first, 0):
            return False
        end = len(value) - len(last)
        if not _at(value, last, end):
            return False
        place = len(first)
        for part in middle:
            while not (place + len(part) <= end and _at(value, part, place)):
                place += 1
                if place + len(part) > end:
                    return False
            place += len(part)
        return True

    return fits


def _at(value: str, part: str, place: int) -> bool:
    return all(
        place + i < len(value) and sign in {"?", value[place + i]} for i, sign in enumerate(part)
    )


def _values(told: Any) -> Sequence[Any]:
    return () if told is None else told.get("Value", ())


def _text(value: Any) -> str:
    if isinstance(value, dict):  # a person's name
        return str(value.get("Alphabetic", ""))
    return str(value)
