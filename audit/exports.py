"""Facts as files: JSON Lines with all that is known, CSV for spreadsheets, PROV for tools.

One line is one fact, and ``kind`` says which: the ledger with the block of the export, a party, a
data-set version, a change of either, a model that descends from a version, a reading of an image of
it, a round, an update with its newest verdict, an earlier verdict, a proposal, a witness's word, a
cosignature. Block and transaction of what proves it stand beside it. Everything is written as it is
read, so that an export of any length takes little memory.

Names and reasons are strangers' words. JSON is written in ASCII, and in CSV what steers a terminal
is spelled out and what a spreadsheet would take for a formula is led by an apostrophe
(https://owasp.org/www-community/attacks/CSV_Injection).
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, TypeAlias, cast, get_args, get_origin, get_type_hints

from aggregator.queries import (
    Contribution,
    CosignatureEntry,
    Descendant,
    MembershipChange,
    ProposalEntry,
    ReadingEntry,
    RoundEntry,
    RoundHistory,
    VerdictEntry,
    VersionChange,
    VersionEntry,
    WitnessWord,
)
from audit.facts import POSITION, DescendantFact, Fact, LedgerState, PartyFact, flattened
from audit.prov import prov_json
from chain.escaping import escaped
from chain.wire import to_hex, to_json_dict

_Line: TypeAlias = dict[str, Any]


class Format(Enum):
    """How an export is written."""

    PROV = "prov"
    CSV = "csv"
    JSONL = "jsonl"

    @property
    def media_type(self) -> str:
        """What HTTP calls it."""
        return _MEDIA_TYPES[self]

    @property
    def suffix(self) -> str:
        """How the names of its files end."""
        return "prov.json" if self is Format.PROV else self.value


_MEDIA_TYPES = {
    # PROV-JSON's submission names no type of its own.
    Format.PROV: "application/json",
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.JSONL: "application/jsonl",
}


def export(facts: Iterable[Fact], kind: Format) -> Iterator[str]:
    """Write facts in a format.

    Args:
        facts: As `audit.facts` tells them.
        kind: The format.

    Returns:
        The file's text, in pieces.
    """
    match kind:
        case Format.PROV:
            return prov_json(facts)
        case Format.CSV:
            return csv_text(facts)
        case Format.JSONL:
            return json_lines(facts)


def json_lines(facts: Iterable[Fact]) -> Iterator[str]:
    """Write each fact as one line of JSON (https://jsonlines.org)."""
    for line in _lines(facts):
        yield json.dumps(line) + "\n"


def csv_text(facts: Iterable[Fact]) -> Iterator[str]:
    """Write facts as one table in the form of RFC 4180, with a header line.

    A column that a fact does not have is empty; lists are joined by spaces.
    """
    row = io.StringIO(newline="")
    writer = csv.DictWriter(row, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    yield _taken(row)
    for line in _lines(facts):
        cells = flattened(line).items()
        writer.writerow({name: _cell(value) for name, value in cells if value is not None})
        yield _taken(row)


# What a line says in other words, or other lines say.
_ELSEWHERE = frozenset({"number", "words", "verdicts", "changes"})
_PLACE = ("round", "task", "hospital")  # a verdict's, where its update says the same


def _lines(facts: Iterable[Fact]) -> Iterator[_Line]:
    for fact in facts:
        match fact:
            case LedgerState():
                yield _line("ledger", fact)
            case PartyFact():
                yield _line("party", fact)
                for change in fact.changes:
                    yield _line("membership_change", change, address=fact.address)
            case VersionEntry():
                yield _line("version", fact)
                for step in fact.changes:
                    yield _line("version_change", step, version=to_hex(fact.version))
            case DescendantFact():
                yield _line("descendant", fact.model, version=to_hex(fact.version))
            case ReadingEntry():
                yield _line("reading", fact)
            case Contribution():
                yield _update(fact)
            case RoundHistory():
                yield from _round(fact)


def _round(history: RoundHistory) -> Iterator[_Line]:
    number = history.round.number
    yield _line("round", history.round, round=number, witnesses=list(history.witnesses))
    yield from map(_update, history.contributions)
    for proposal in history.proposals:
        place = {"round": number, "proposal": proposal.number}
        yield _line("proposal", proposal, **place)
        if proposal is not history.proposals[-1]:
            yield from (_line("earlier_verdict", verdict) for verdict in proposal.verdicts)
        yield from (_line("word", word, **place) for word in proposal.words)
    for signed in history.cosignatures:
        yield _line("cosignature", signed, round=number, head=signed.number)


def _update(entry: Contribution) -> _Line:
    line = _line("update", entry)
    if line["verdict"] is not None:
        line["verdict"] = {
            name: value for name, value in line["verdict"].items() if name not in _PLACE
        }
    return line


def _line(kind: str, fact: object, **place: object) -> _Line:
    told = to_json_dict(fact)
    return {"kind": kind, **place, **{name: told[name] for name in told if name not in _ELSEWHERE}}


def _columns() -> tuple[str, ...]:
    """List every column that a line can have, from what the facts are made of."""
    kinds = (
        LedgerState,
        PartyFact,
        MembershipChange,
        VersionEntry,
        VersionChange,
        Descendant,
        ReadingEntry,
        RoundEntry,
        Contribution,
        VerdictEntry,
        ProposalEntry,
        WitnessWord,
        CosignatureEntry,
    )
    # Where a line stands comes first, then what proves it.
    first = ("kind", "round", "proposal", "block", "transaction", "log_index")
    known = (name for kind in kinds for name in _names(kind))
    return tuple(dict.fromkeys([*first, *known, "witnesses", "head"]))


def _names(kind: type, lead: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        inner = next((one for one in (hint, *get_args(hint)) if is_dataclass(one)), None)
        if name in _ELSEWHERE or (lead and name in _PLACE):
            continue
        if inner is None or get_origin(hint) is tuple:
            yield f"{lead}{name}"
        elif name == POSITION:
            yield from _names(cast("type", inner), lead)
        else:
            yield from _names(cast("type", inner), f"{lead}{name}_")


COLUMNS = _columns()


def _cell(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return _cell(" ".join(map(str, value)))
        case str():
            shown = escaped(value)
            return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
        case _:
            return str(value)


# What a spreadsheet reads as the beginning of a formula, in either width.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def _taken(row: io.StringIO) -> str:
    text = row.getvalue()
    row.seek(0)
    row.truncate()
    return text
