"""Looks that a hospital hands over: taken where they are all of a batch that it anchored.

The ledger holds roots alone (docs/protocol.md, section 15), so who looked is known only from the
hospital. Nothing has to be believed: the root is computed from the looks. They stay when the index
is built anew, and answer as long as the chain has their batch (`aggregator.queries.looks`).
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session

from aggregator.index import remembering
from aggregator.queries import LookBatch, look_batch
from aggregator.queries.pages import in_range
from aggregator.tables import HandedBatchRow, HandedLookRow
from chain.errors import DigestMismatchError, InvalidInputError
from chain.looks import looks_root
from chain.types import Look
from chain.wire import GREATEST_EXACT, to_hex


def hand_over(engine: Engine, batch: LookBatch, looks: Sequence[Look]) -> tuple[LookBatch, bool]:
    """Keep the looks of an anchored batch, all of them or none.

    (1) They are as many as were anchored, from the first number on, without a gap.
    (2) Their root is the one that was anchored.
    (3) The chain still has the batch.

    Args:
        engine: The index.
        batch: The batch, as the index has it.
        looks: All of its looks, ascending by number.

    Returns:
        The batch as it stands then, and whether it was not there before.

    Raises:
        InvalidInputError: If the looks are not numbered as the batch is, or a number or a time is
            none.
        DigestMismatchError: If they are not those that were anchored, or the batch is gone.
        IndexDatabaseError: If the database cannot be used.
    """
    # (1) The numbers; that they have no gap is checked with the root.
    if len(looks) != batch.entries:
        raise InvalidInputError(f"expected {batch.entries} looks, found {len(looks)}")
    if (looks[0].hospital, looks[0].number) != (batch.hospital, batch.first):
        raise InvalidInputError(
            f"expected looks of {batch.hospital} from number {batch.first} on, found number "
            f"{looks[0].number} of {looks[0].hospital}"
        )
    what = f"looks of batch {batch.batch}"
    rows = [_row(batch.root, look) for look in looks]
    # (2) The root.
    if (root := looks_root(looks)) != batch.root:
        raise DigestMismatchError(what, to_hex(batch.root), to_hex(root))
    with remembering(engine) as connection:
        # (3) The batch, which a chain that went back may have lost while the looks arrived.
        standing = look_batch(Session(connection), batch.hospital, batch.batch)
        if standing is None or replace(standing, handed_at=batch.handed_at) != batch:
            found = "none" if standing is None else to_hex(standing.root)
            raise DigestMismatchError(f"{what} on the chain now", to_hex(batch.root), found)
        is_there = select(HandedBatchRow.handed_at).where(HandedBatchRow.root == root)
        handed_at = connection.execute(is_there).scalar_one_or_none()
        if handed_at is not None:
            return replace(standing, handed_at=handed_at), False
        handed_at = int(time.time())
        connection.execute(
            insert(HandedBatchRow).values(
                root=root,
                hospital=batch.hospital,
                first=batch.first,
                entries=batch.entries,
                handed_at=handed_at,
            )
        )
        connection.execute(insert(HandedLookRow), rows)
        return replace(standing, handed_at=handed_at), True


def _row(root: bytes, look: Look) -> dict[str, object]:
    in_range(look.number)
    # A time that no cursor can name would end the pages of histories that others' looks are in.
    if look.time > GREATEST_EXACT:
        raise InvalidInputError(
            f"look {look.number}: expected a time until {GREATEST_EXACT}, found {look.time}"
        )
    return {
        "root": root,
        "number": look.number,
        "hospital": look.hospital,
        "researcher": look.researcher,
        "grant": look.grant,
        "version": look.version,
        "image": look.image,
        "time": look.time,
        "request": look.request,
    }
