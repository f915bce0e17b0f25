"""What an audit tells of data that were withdrawn since models were made of them.

That is no fault: a withdrawal stops the use of data from then on. Whoever uses a model should know.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from aggregator.descent import Descent, Flag, FlagKind
from audit.verify import Notice
from chain.ledger_view import LedgerView

_WORDS = {
    FlagKind.WITHDRAWN: "withdrawn",
    FlagKind.IMAGE_ERASED: "from which {count} images were erased, the first one",
    FlagKind.PURPOSE_REVOKED: "whose use for {purposes} was revoked",
}


def read_notices(reader: LedgerView, *tasks: str) -> tuple[Notice, ...]:
    """Tell of tasks whose models descend from data that were withdrawn, erased or restricted.

    Args:
        reader: The ledger; what happened behind its newest block is not known.
        tasks: The tasks' names.

    Raises:
        LedgerError: If the chain cannot be read.
    """
    descent = Descent(reader.events(0, reader.head().number))
    return tuple(notice for task in tasks for notice in notices_of(descent, task))


def notices_of(descent: Descent, task: str) -> Iterator[Notice]:
    """Tell of each flag on models of a task, once for all of them: they are one line."""
    last = descent.last_final(task)
    if last is None:
        return
    for flag in descent.flags(last):
        first, _ = descent.touched(task, flag)
        yield Notice(
            kind=flag.kind.name,
            task=task,
            first_round=first,
            last_round=last,
            version=flag.version.hex(),
            hospital=flag.hospital,
            block=flag.position.block,
            time=flag.since,
            message=_message(task, first, last, flag),
        )


def _message(task: str, first: int, last: int, flag: Flag) -> str:
    models = f"rounds {first} to {last}" if first < last else f"round {last}"
    verb = "models of {} descend" if first < last else "model of {} descends"
    purposes = ", ".join(f"DUO:{number:07d}" for number in flag.purposes)
    what = _WORDS[flag.kind].format(count=flag.count, purposes=purposes)
    reason = "" if flag.reason is None else f": {flag.reason!r}"
    return (
        f"the {verb.format(f'{models} of {task!r}')} from data set {flag.name!r} of "
        f"{flag.hospital}, {what} on {_moment(flag.since)} at block {flag.position.block}{reason}"
    )


def _moment(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M UTC}"
    except (OverflowError, OSError, ValueError):  # a forged block may have any time
        return f"{seconds} s after 1970"
