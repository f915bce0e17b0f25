"""Dates and times as DICOM writes them (PS3.5, section 6.2), set back by a patient's shift.

A date and the time that belongs to it move together, over midnight where need be, so that every
interval between two moments of a patient stays what it was.
"""

import re
from datetime import date, datetime, timedelta

_DATE = re.compile(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d{1,6})?)?)?")
_MOMENT = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\d{2})?(\.\d{1,6})?([+-]\d{4})?")
_NOON = timedelta(hours=12)
_DAY = timedelta(days=1)


def shifted_date(written: str, shift: timedelta, time: str = "") -> str:
    """Return a date (DA) set back, or nothing where it is none.

    Args:
        written: ``YYYYMMDD``, or one of its older forms.
        shift: By how much.
        time: The time (TM) on that date, if it is known; noon is taken where it is not.
    """
    found = _DATE.fullmatch(written.strip())
    if found is None:
        return ""
    try:
        at = datetime(*map(int, found.groups()))  # type: ignore[arg-type]  # noqa: DTZ001 - of no zone
        past = _since_midnight(time)
        return _digits((at + (_NOON if past is None else past) - shift).date())
    except (ValueError, OverflowError):
        return ""


def shifted_time(written: str, shift: timedelta) -> str:
    """Return a time (TM) set back, over midnight where need be, or nothing where it is none."""
    past = _since_midnight(written)
    found = _TIME.fullmatch(written.strip())
    if past is None or found is None:
        return ""
    moved = timedelta(seconds=(past - shift).seconds, microseconds=past.microseconds)
    text = (datetime(1, 1, 1) + moved).strftime("%H%M%S")  # noqa: DTZ001 - of no zone
    parts = sum(part is not None for part in found.groups()[:3])
    return text[: 2 * parts] + (found[4] or "")


def shifted_moment(written: str, shift: timedelta) -> str:
    """Return a date and time (DT) set back, as precise as it was, or nothing where it is none."""
    found = _MOMENT.fullmatch(written.strip())
    if found is None:
        return ""
    parts = [part for part in found.groups()[:6] if part is not None]
    least = ["0001", "01", "01", "12", "00", "00"]
    try:
        at = datetime(*map(int, parts + least[len(parts) :]))  # type: ignore[arg-type]  # noqa: DTZ001
        moved = at - shift
    except (ValueError, OverflowError):
        return ""
    text = _digits(moved.date()) + moved.strftime("%H%M%S")
    return text[: sum(map(len, parts))] + (found[7] or "") + (found[8] or "")


def spellings(written: str) -> frozenset[str]:
    """Return the runs of eight digits by which a date (DA or the start of a DT) may be told."""
    found = _DATE.match(written.strip())
    if found is None:
        return frozenset()
    year, month, day = found.groups()
    return frozenset({year + month + day, day + month + year, month + day + year})


def _since_midnight(written: str) -> timedelta | None:
    found = _TIME.fullmatch(written.strip())
    if found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[:3])
    past = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    past += timedelta(microseconds=int((found[4] or ".0")[1:].ljust(6, "0")))
    return past if past < _DAY else None


def _digits(day: date) -> str:
    return f"{day.year:04d}{day.month:02d}{day.day:02d}"
