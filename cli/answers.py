"""How the answers of `fedwitness ask` look to people.

Digests are shortened where they only tell one thing from another; --json has them whole. Names,
tasks and reasons are strangers' words and are made safe to print.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aggregator.queries import (
    Contribution,
    DatasetHistory,
    Descendants,
    HospitalHistory,
    ImageHistory,
    LookEntry,
    LookLog,
    Oddities,
    Overview,
    Page,
    Provenance,
    ReadingEntry,
    RequestEntry,
    RoundEntry,
    RoundHistory,
    TimelineEntry,
    VerdictEntry,
    VersionChange,
    VersionEntry,
    Viewers,
)
from chain.types import LogPosition
from chain.wire import to_hex
from cli.screen import moment, plain

T = TypeVar("T")

_SHORT = 10  # characters of a digest, with 0x


def page_of(answer: object, pages: str) -> Page[Any]:
    """Return an answer's page: its member of this name, or itself where there is no name."""
    found: Any = getattr(answer, pages) if pages else answer
    return cast("Page[Any]", found)


def with_page(answer: T, pages: str, page: Page[Any]) -> T:
    """Put a longer page into an answer, or in its place where the answer is one."""
    changed: Any = replace(answer, **{pages: page}) if pages else page  # type: ignore[type-var]
    found: T = changed
    return found


def provenance(found: Provenance) -> RenderableType:
    """Show the rounds that a model descends from."""
    rounds = [one.round for one in found.ancestors.entries]
    kept = [one for ancestor in found.ancestors.entries for one in ancestor.kept]
    title = f"The model {to_hex(found.model)} descends from {to_hex(found.origin)}"
    also = ", ".join(map(str, found.also_made_in))
    return Group(
        _title(title + (f"; rounds {also} made the very same model" if also else "")),
        _rounds(rounds),
        _title("Updates that were kept"),
        _contributions(kept),
    )


def dataset(found: DatasetHistory) -> RenderableType:
    """Show a data set's versions, what happened to them, and their uses."""
    return Group(
        *_versions(found.versions),
        _title("Updates trained on it"),
        _contributions(found.uses.entries),
    )


def hospital(found: HospitalHistory) -> RenderableType:
    """Show a hospital, its data and its updates."""
    standing = f"suspended: {found.suspension}" if found.suspended else "active"
    roles = ", ".join(found.roles) or "no role"
    told = _table(
        ("when", "what", "role", "reason", "block", "transaction"),
        (
            (moment(one.changed_at), one.what, one.role, one.reason, *_proof(one.position))
            for one in found.changes
        ),
    )
    return Group(
        _title(f"{found.name} ({found.address}), {roles}, {standing}"),
        told,
        *_versions(found.versions),
        _title("Its updates"),
        _contributions(found.contributions.entries),
    )


def one_round(found: RoundHistory) -> RenderableType:
    """Show all that happened in a round."""
    parts: list[RenderableType] = [_rounds([found.round]), _title("Updates")]
    parts.append(_contributions(found.contributions))
    for proposal in found.proposals:
        parts.append(_title(f"Proposal {proposal.number}: {to_hex(proposal.model)}"))
        said = (
            (
                moment(word.said_at),
                word.witness,
                "attested it" if word.attested else "got something else",
                *_proof(word.position),
            )
            for word in proposal.words
        )
        parts.append(_table(("when", "witness", "what", "block", "transaction"), said))
    if found.cosignatures:
        signed = (
            (moment(one.cosigned_at), one.witness, one.number, to_hex(one.hash))
            for one in found.cosignatures
        )
        parts.append(_title("Signatures under the ledger's head"))
        parts.append(_table(("when", "witness", "head", "hash"), signed))
    return Group(*parts)


def descendants(found: Descendants) -> RenderableType:
    """Show the models that a data-set version is in."""
    state = (
        "in use"
        if found.withdrawn_at is None
        else f"withdrawn {moment(found.withdrawn_at)}: {found.version.withdrawal}"
    )
    tasks = _table(
        ("task", "models", "first round", "through", "newest round", "newest model"),
        (
            (
                one.task,
                one.models,
                one.first_round,
                one.through or "its own training",
                one.newest_round,
                to_hex(one.newest_model),
            )
            for one in found.tasks
        ),
    )
    models = _table(
        ("task", "round", "model", "trained on it", "final", "block", "transaction"),
        (
            (
                one.task,
                one.round,
                to_hex(one.model),
                "yes" if one.trained else "through its base model",
                moment(one.final_at),
                *_proof(one.position),
            )
            for one in found.models.entries
        ),
    )
    return Group(_title(f"{found.version.name}, {state}"), tasks, _title("Models"), models)


def viewers(found: Viewers) -> RenderableType:
    """Show who could see an image on a day, and who did."""
    grants = _table(
        ("researcher", "what", "could see it", "grant", "block", "transaction"),
        (
            (
                sight.grant.researcher,
                "the version" if sight.grant.image is None else _short(sight.grant.image),
                "\n".join(f"{moment(one.since)} to {moment(one.until)}" for one in sight.live),
                _short(sight.grant.grant),
                *_proof(sight.grant.position),
            )
            for sight in found.could.entries
        ),
    )
    what = "any image" if found.image is None else f"the image {_short(found.image)}"
    return Group(
        _title(f"Who could see {what} of {found.version.name} on {moment(found.day.since)[:10]}"),
        grants,
        _title("Who did look"),
        _looks(found.looks.found),
        log_told(found.looks.log),
    )


def image_history(found: ImageHistory) -> RenderableType:
    """Show what happened to an image."""
    parts: list[RenderableType] = [
        _title(f"The image {to_hex(found.image)}"),
        _table(
            ("version", "data set", "hospital", "state", "erased"),
            (
                (
                    _short(one.version),
                    one.name,
                    one.hospital,
                    one.state.name,
                    "\n".join(
                        moment(erased.erased_at)
                        for erased in found.erasures
                        if erased.version == one.version
                    ),
                )
                for one in found.versions
            ),
        ),
        _title("What happened"),
        _table(
            ("when", "what", "hospital", "by", "about", "block", "transaction"),
            (
                (
                    moment(one.at),
                    one.what,
                    one.hospital,
                    one.actor,
                    _about(one),
                    *_proof(one.position),
                )
                for one in found.timeline.entries
            ),
        ),
    ]
    return Group(*parts, *map(log_told, found.logs))


def readings(found: Page[ReadingEntry]) -> RenderableType:
    """Show readings."""
    return _table(
        ("when", "reading", "image", "hospital", "author", "what", "block", "transaction"),
        (
            (
                moment(one.recorded_at),
                to_hex(one.reading),
                _short(one.image),
                one.hospital,
                one.author,
                _kind(one),
                *_proof(one.position),
            )
            for one in found.entries
        ),
    )


def reading_requests(found: Page[RequestEntry]) -> RenderableType:
    """Show requests for readings."""
    return _table(
        ("asked", "request", "image", "hospital", "of", "take by", "fulfil by", "state", "block"),
        (
            (
                moment(one.asked_at),
                to_hex(one.request),
                _short(one.image),
                one.hospital,
                one.taker or one.reader or "any",
                moment(one.take_by),
                moment(one.fulfil_by),
                one.state.name + (", lapsed" if one.lapsed else ""),
                one.position.block,
            )
            for one in found.entries
        ),
    )


def log_told(log: LookLog) -> str:
    """Tell how much of a hospital's access log the answer knows."""
    if log.anchored_at is None:
        return f"{log.hospital} has anchored no access log yet: who looked is not known."
    until = f"It anchored {log.batches} batches, the last one at {moment(log.anchored_at)}"
    if not log.missing:
        return f"All that {log.hospital} anchored of its access log was handed over. {until}."
    return (
        f"{log.missing} batches of the access log of {log.hospital} were not handed over: others "
        f"may have looked. {until}."
    )


def _looks(found: Page[LookEntry]) -> RenderableType:
    more = "" if found.cursor is None else " and more"
    return _table(
        ("when", "researcher", "image", "batch", f"number{more}", "block", "transaction"),
        (
            (
                moment(one.time),
                one.researcher,
                _short(one.image),
                one.batch,
                one.number,
                *_proof(one.position),
            )
            for one in found.entries
        ),
    )


def _about(entry: TimelineEntry) -> str | None:
    if entry.look is not None:
        return f"batch {entry.look.batch}, number {entry.look.number}"
    if entry.comparison is not None:
        said = entry.comparison
        return f"{said.agreement.name}: {_short(said.own)} with {_short(said.other)}"
    if entry.reading is not None:
        return _short(entry.reading.reading)
    if entry.request is not None:
        return _short(entry.request.request)
    if entry.grant is not None:
        return f"to {entry.grant.researcher}"
    return None if entry.change is None else _told_of(entry.change)


def _kind(reading: ReadingEntry) -> str:
    if reading.corrects is not None:
        return f"corrects {_short(reading.corrects)}: {reading.reason}"
    if reading.corrected_by is not None:
        return f"corrected by {_short(reading.corrected_by)}"
    if reading.opinion_on is not None:
        return f"second opinion on {_short(reading.opinion_on)}"
    return "reading"


def rejections(found: Page[VerdictEntry]) -> RenderableType:
    """Show rejected updates and why they were."""
    return _table(
        ("round", "task", "hospital", "reason", "score", "threshold", "block", "transaction"),
        (
            (
                one.round,
                one.task,
                one.hospital,
                one.reason,
                one.score,
                one.threshold,
                *_proof(one.position),
            )
            for one in found.entries
        ),
    )


def oddities(found: Oddities) -> RenderableType:
    """Show what looked odd."""
    parts: list[RenderableType] = []
    if found.findings:
        parts.append(_title("The chain was not what it had been"))
        seen = (
            (
                moment(one.seen_at),
                one.what,
                one.block,
                to_hex(one.expected),
                "no such block" if one.found is None else to_hex(one.found),
            )
            for one in found.findings
        )
        parts.append(_table(("seen", "what", "block", "expected", "found"), seen))
    parts.append(_title("What a person should look at"))
    odd = (
        (
            moment(one.noticed_at),
            one.kind,
            one.round,
            one.subject,
            one.expected,
            one.found,
            *_proof(one.position),
        )
        for one in found.entries.entries
    )
    names = ("when", "kind", "round", "subject", "expected", "found", "block", "transaction")
    return Group(*parts, _table(names, odd))


def overview(found: Overview) -> RenderableType:
    """Show the federation at a glance."""
    title = (
        f"{found.rounds} rounds, {found.final} final, {found.aborted} aborted; {found.versions} "
        f"data-set versions, {found.grants} grants, {found.findings} chain findings"
    )
    tasks = _table(
        ("task", "rounds", "final", "accepted", "clipped", "rejected", "disputes", "newest model"),
        (
            (
                one.task,
                one.rounds,
                one.final,
                one.accepted,
                one.clipped,
                one.rejected,
                one.disputes,
                None if one.newest_model is None else to_hex(one.newest_model),
            )
            for one in found.tasks
        ),
    )
    witnesses = _table(
        ("witness", "name", "rounds", "attested", "disputed", "signed heads", "last"),
        (
            (
                one.address,
                one.name,
                one.rounds,
                one.attested,
                one.disputed,
                one.cosigned,
                None if one.last_at is None else moment(one.last_at),
            )
            for one in found.witnesses
        ),
    )
    reasons = _table(
        ("outcome", "reason", "updates"),
        ((one.outcome.name, one.reason, one.updates) for one in found.verdicts),
    )
    odd = _table(("oddity", "found"), ((one.kind, one.found) for one in found.oddities))
    return Group(
        _title(title),
        tasks,
        witnesses,
        _title("Verdicts"),
        reasons,
        _title("What a person should look at"),
        odd,
    )


def _rounds(entries: Sequence[RoundEntry]) -> RenderableType:
    return _table(
        ("round", "task", "phase", "updates", "attested", "model", "opened"),
        (
            (
                one.number,
                one.task,
                one.phase.name,
                f"{one.accepted} accepted, {one.clipped} clipped, {one.rejected} rejected",
                f"{one.attestations} of {one.quorum}",
                None if one.model is None else to_hex(one.model),
                moment(one.opened_at),
            )
            for one in entries
        ),
    )


def _contributions(entries: Iterable[Contribution]) -> RenderableType:
    return _table(
        ("round", "hospital", "examples", "data", "verdict", "block", "transaction"),
        (
            (
                one.round,
                one.hospital,
                one.examples,
                "\n".join(f"{use.name} ({use.state.name.lower()})" for use in one.datasets),
                _told(one.verdict),
                *_proof(one.position),
            )
            for one in entries
        ),
    )


def _versions(entries: Sequence[VersionEntry]) -> tuple[RenderableType, ...]:
    table = _table(
        ("data set", "version", "images", "state", "registered", "block", "transaction"),
        (
            (
                one.name,
                to_hex(one.version),
                one.images,
                one.state.name,
                moment(one.registered_at),
                *_proof(one.position),
            )
            for one in entries
        ),
    )
    changes = _table(
        ("when", "version", "what", "told", "block", "transaction"),
        (
            (
                moment(change.changed_at),
                _short(one.version),
                change.what,
                _told_of(change),
                *_proof(change.position),
            )
            for one in entries
            for change in one.changes
        ),
    )
    return (_title("Data-set versions"), table, _title("What happened to them"), changes)


def _told_of(change: VersionChange) -> str | None:
    if change.successor is not None:
        return f"by {_short(change.successor)}"
    if change.image is not None:
        return f"image {_short(change.image)}"
    if change.purposes is not None:
        return "for " + ", ".join(f"DUO:{number:07d}" for number in change.purposes)
    return change.reason


def _told(verdict: VerdictEntry | None) -> str:
    if verdict is None:
        return "not judged yet"
    return verdict.outcome.name + ("" if verdict.reason == "NONE" else f": {verdict.reason}")


def _title(text: str) -> RenderableType:
    return Text.from_markup(f"[bold]{plain(text)}[/]")


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> RenderableType:
    table = Table(pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold", vertical="top")
    for row in rows:
        table.add_row(*(plain("-" if cell in (None, "") else str(cell)) for cell in row))
    return table if table.row_count else "-"


def _proof(position: LogPosition) -> tuple[int, str]:
    """Give the block and the transaction that prove a row."""
    return position.block, _short(position.transaction)


def _short(digest: bytes) -> str:
    return f"{to_hex(digest)[:_SHORT]}…"
