"""The index: a database that answers questions about the chain, and is never the truth itself.

It is filled from the events of all contracts, in order, and can be built from nothing at any time.
Each transaction takes the index from one block to a later one, so it always shows the chain as it
stood at some block. Where the chain no longer has that block, this is written down before the index
is built anew, and outlives every rebuild.
"""

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    collate,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    type_coerce,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from sqlalchemy.types import NullType, String

from aggregator import tables
from aggregator.events import apply_event
from aggregator.progress import Progress, ProgressCallback, unheard
from aggregator.tables import HEAD, SCHEMA_VERSION, ChainFindingRow, IndexHead
from aggregator.writing import Writing
from chain.errors import IndexDatabaseError, InvalidInputError
from chain.events import LedgerEvent
from chain.rpc import Head

CHUNK = 2_000  # blocks to a transaction
BUSY_SECONDS = 30
SQLITE_CACHE = 64  # MiB
_SAMPLE = 1_000  # rows of an index that SQLite's statistics look at
_MEMORY = "sqlite://"
_RANKS = {int: 1, float: 1, str: 2, bytes: 3}
_REBUILD = "build it anew with `fedwitness index rebuild`"


class EventSource(Protocol):
    """The chain as the index reads it; `chain.reader.LedgerReader` is one."""

    @property
    def chain_id(self) -> int:
        """The chain's number."""

    @property
    def address(self) -> str:
        """The ledger's address."""

    @property
    def deployed_at(self) -> int:
        """The block before which there are no events."""

    def head(self) -> Head:
        """Return the newest block."""

    def block(self, number: int) -> Head:
        """Return a block."""

    def events(self, from_block: int, to_block: int) -> Iterator[LedgerEvent]:
        """Yield all events from one block to another, both included, in order."""


@dataclass(frozen=True, slots=True)
class IndexedBlock:
    """The block up to which the index has read the chain."""

    number: int
    hash: bytes


_Values: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A value of the index that the chain does not vouch for.

    Args:
        table: The table.
        key: The row's primary key.
        column: The column, empty where a whole row is missing or too many.
        expected: What the chain says, None where it knows no such row.
        found: What the index holds, None where it has no such row.
    """

    table: str
    key: tuple[object, ...]
    column: str
    expected: object
    found: object


def open_index(url: str) -> Engine:
    """Connect to the index's database; nothing is read or made yet.

    Args:
        url: SQLAlchemy's form: `sqlite:///FILE` or `postgresql+psycopg://…`.

    Raises:
        InvalidInputError: If the URL is malformed or of another kind.
    """
    try:
        if url == _MEMORY:  # one connection: each has its own memory
            engine = create_engine(url, poolclass=StaticPool)
        else:
            engine = create_engine(url, pool_pre_ping=True)
    except (ArgumentError, ModuleNotFoundError, ValueError) as error:
        raise InvalidInputError(
            "expected the index's database as sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif engine.dialect.name != "postgresql":
        raise InvalidInputError(f"expected SQLite or PostgreSQL, found {engine.dialect.name}")
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Lend a session to `aggregator.queries`; nothing that happens in it is kept.

    Raises:
        IndexDatabaseError: If the database cannot be used or is of another version.
    """
    with _translated(engine), Session(engine) as session:
        _require_current(session.connection())
        yield session


@contextmanager
def remembering(engine: Engine) -> Iterator[Connection]:
    """Lend a connection for what no rebuild brings back; all of it is kept, or nothing.

    The chain's tables are not changed meanwhile.

    Raises:
        IndexDatabaseError: If the database cannot be used or is of another version.
    """
    with _translated(engine), _writing(engine) as connection:
        _require_current(connection)
        _lock_head(connection)
        yield connection


def indexed_block(engine: Engine) -> IndexedBlock | None:
    """Tell how far the index has read; None where it was never filled.

    Raises:
        IndexDatabaseError: If the database cannot be used or is of another version.
    """
    with _translated(engine), engine.connect() as connection:
        if not inspect(connection).has_table(IndexHead.__tablename__):
            return None
        _require_current(connection)
        head = connection.execute(select(IndexHead.block, IndexHead.block_hash)).one()
        return IndexedBlock(head.block, head.block_hash)


def update_index(
    engine: Engine, reader: EventSource, progress: ProgressCallback = unheard
) -> IndexedBlock:
    """Bring the index up to the chain's newest block.

    Where the chain no longer has the block that the index stands at, that is kept as a finding, and
    the index is built anew.
    Processes that update the same index at once take turns, chunk by chunk.

    Args:
        engine: The index.
        reader: The chain.
        progress: Called after each chunk of blocks.

    Raises:
        IndexDatabaseError: If the database cannot be used, or holds another version or ledger.
        LedgerError: If the chain cannot be reached; the index stands at some block, as always.
    """
    with _translated(engine):
        with _writing(engine) as connection:
            if not inspect(connection).has_table(IndexHead.__tablename__):
                _create_tables(connection, reader)
            _require_same_ledger(connection, reader)
        newest = reader.head().number
        while (reached := _read_on(engine, reader, newest)).number < newest:
            progress(Progress("blocks", reached.number, newest))
        progress(Progress("blocks", reached.number, newest))
        return reached


def rebuild(
    engine: Engine, reader: EventSource, progress: ProgressCallback = unheard
) -> IndexedBlock:
    """Drop the index and build it from nothing, in one transaction: on an error it is as it was.

    Chain findings stay. If the chain no longer has the block that the index stood at, that is one.

    Args:
        engine: The index.
        reader: The chain.
        progress: Called after each chunk of blocks.

    Raises:
        IndexDatabaseError: If the database cannot be used.
        LedgerError: If the chain cannot be reached.
    """
    with _translated(engine), _writing(engine) as connection:
        if _is_of(connection, reader) and not _is_on_chain(at := _lock_head(connection), reader):
            _keep_finding(connection, reader, at)
        _build(connection, reader, reader.head().number, progress)
        return _lock_head(connection)


def compare(engine: Engine, reader: EventSource) -> list[Difference]:
    """Hold every row of the index against the chain, read anew up to the index's block.

    Raises:
        IndexDatabaseError: If the database was never filled, cannot be used, or holds another
            version or ledger.
        LedgerError: If the chain cannot be reached.
    """
    _require_file(engine)
    with _translated(engine), engine.connect() as found, _scratch() as expected:
        _require_same_ledger(found, reader)
        at = _lock_head(found)
        _build(expected, reader, min(at.number, reader.head().number), unheard)
        return [
            difference
            for table in tables.Table.metadata.sorted_tables
            for difference in _compare_table(table, expected, found)
        ]


def index_digest(engine: Engine) -> str:
    """Compute the SHA-256 of all rows, in hex: equal for equal contents in any database.

    Raises:
        IndexDatabaseError: If the database cannot be used or is of another version.
    """
    hasher = hashlib.sha256()
    with _translated(engine), engine.connect() as connection:
        _require_current(connection)
        for table in tables.Table.metadata.sorted_tables:
            hasher.update(f"{table.name}\n".encode())
            for row in _rows(connection, table):
                hasher.update(f"{tuple(row)!r}\n".encode())
    return hasher.hexdigest()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # SQLAlchemy begins transactions itself, so that making tables is part of them too.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # A power cut may take the last blocks along, which are then read again, but breaks nothing.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    connection.execute(f"PRAGMA cache_size = {-SQLITE_CACHE * 1024}")
    connection.execute(f"PRAGMA analysis_limit = {_SAMPLE}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that becomes a writing one half-way fails when another one wrote meanwhile.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _writing(engine: Engine) -> Iterator[Connection]:
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


@contextmanager
def _scratch() -> Iterator[Connection]:
    """Lend an empty index in a file, as it may become larger than memory."""
    with tempfile.TemporaryDirectory(prefix="fedwitness-index-") as folder:
        engine = open_index(f"sqlite:///{folder}/index.sqlite")
        try:
            with _writing(engine) as connection:
                yield connection
        finally:
            engine.dispose()


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        told = error.orig if isinstance(error, DBAPIError) else error
        place = engine.url.render_as_string(hide_password=True)
        raise IndexDatabaseError(
            f"the index at {place} cannot be used: {told}. Check that the database runs and can "
            f"be written to; if it is damaged, {_REBUILD}"
        ) from error


def _create_tables(connection: Connection, reader: EventSource) -> None:
    tables.Table.metadata.create_all(connection)
    tables.Memory.metadata.create_all(connection)
    connection.execute(
        insert(IndexHead).values(
            id=HEAD,
            schema_version=SCHEMA_VERSION,
            chain_id=reader.chain_id,
            ledger=reader.address,
            block=reader.deployed_at - 1,
            block_hash=b"",
        )
    )


def _read_on(engine: Engine, reader: EventSource, newest: int) -> IndexedBlock:
    """Take the index a chunk further, in one transaction, and tell where it then stands."""
    with _writing(engine) as connection:
        at = _lock_head(connection)
        if not _is_on_chain(at, reader):
            _keep_finding(connection, reader, at)
            _build(connection, reader, newest, unheard)
        elif at.number < newest:
            writing = Writing(connection)
            _apply_blocks(writing, reader, at.number + 1, min(at.number + CHUNK, newest))
            writing.flush()
        return _lock_head(connection)


def _build(
    connection: Connection, reader: EventSource, newest: int, progress: ProgressCallback
) -> None:
    tables.Table.metadata.drop_all(connection)
    _create_tables(connection, reader)
    # Sorted once in the end, SQL indexes take half the time that keeping them sorted takes.
    later = [
        index
        for table in tables.Table.metadata.sorted_tables
        for index in sorted(table.indexes, key=lambda one: str(one.name))
        if index.name not in tables.NEEDED_TO_WRITE
    ]
    for index in later:
        index.drop(connection)
    writing = Writing(connection, [(IndexHead, (HEAD,))])
    for first in range(reader.deployed_at, newest + 1, CHUNK):
        last = min(first + CHUNK - 1, newest)
        _apply_blocks(writing, reader, first, last)
        progress(Progress("blocks", last, newest))
    writing.flush()
    for index in later:
        index.create(connection)
    # So that the database knows at once by which of them a question is answered.
    connection.exec_driver_sql("ANALYZE")


def _apply_blocks(writing: Writing, reader: EventSource, first: int, last: int) -> None:
    reached = reader.block(last)
    for one in reader.events(first, last):
        apply_event(writing, one)
    writing.change(IndexHead, (HEAD,), block=reached.number, block_hash=reached.hash)
    writing.relieve()


def _keep_finding(connection: Connection, reader: EventSource, at: IndexedBlock) -> None:
    """Write down that the chain no longer has the block that the index stands at."""
    tables.Memory.metadata.create_all(connection)
    head = reader.head().number
    is_shorter = head < at.number
    last = connection.execute(select(func.max(ChainFindingRow.number))).scalar_one()
    connection.execute(
        insert(ChainFindingRow).values(
            number=(last or 0) + 1,
            what="rewound" if is_shorter else "reorganised",
            chain_id=reader.chain_id,
            ledger=reader.address,
            block=at.number,
            expected=at.hash,
            found=None if is_shorter else reader.block(at.number).hash,
            head=head,
            seen_at=int(time.time()),
        )
    )


def _lock_head(connection: Connection) -> IndexedBlock:
    head = connection.execute(select(IndexHead.block, IndexHead.block_hash).with_for_update()).one()
    return IndexedBlock(head.block, head.block_hash)


def _is_of(connection: Connection, reader: EventSource) -> bool:
    """Tell whether there is an index of this version and this ledger."""
    try:
        _require_same_ledger(connection, reader)
    except IndexDatabaseError:
        return False
    return True


def _is_on_chain(at: IndexedBlock, reader: EventSource) -> bool:
    if not at.hash:  # nothing was read yet
        return True
    return at.number <= reader.head().number and reader.block(at.number).hash == at.hash


def _require_file(engine: Engine) -> None:
    """Refuse an SQLite file that is not there, before connecting would make an empty one."""
    file = engine.url.database
    if engine.dialect.name == "sqlite" and file is not None and not Path(file).exists():
        raise IndexDatabaseError(f"there is no index at {file}: {_REBUILD}")


def _require_current(connection: Connection) -> None:
    if not inspect(connection).has_table(IndexHead.__tablename__):
        raise IndexDatabaseError(f"the index was never filled: {_REBUILD}")
    # Alone: the other columns may not be there in another version.
    found = connection.execute(select(IndexHead.schema_version)).scalar_one_or_none()
    if found != SCHEMA_VERSION:
        raise IndexDatabaseError(
            f"expected an index of version {SCHEMA_VERSION}, found version {found}: {_REBUILD}"
        )


def _require_same_ledger(connection: Connection, reader: EventSource) -> None:
    _require_current(connection)
    found = connection.execute(select(IndexHead.chain_id, IndexHead.ledger)).one()
    expected = (reader.chain_id, reader.address)
    if tuple(found) != expected:
        raise IndexDatabaseError(
            f"expected an index of the ledger {expected[1]} on chain {expected[0]}, found one of "
            f"{found.ledger} on chain {found.chain_id}: name another database, or {_REBUILD}"
        )


def _rows(connection: Connection, table: Table) -> Iterator[_Values]:
    """Yield a table's rows ascending by primary key, in the order of bytes in any database.

    The values are those of the database's driver, unconverted: what somebody else wrote into a
    table need not fit its types.
    """
    is_postgresql = connection.dialect.name == "postgresql"
    order = [
        collate(column, "C") if is_postgresql and isinstance(column.type, String) else column
        for column in table.primary_key
    ]
    raw = [type_coerce(column, NullType()).label(column.name) for column in table.columns]
    statement = select(*raw).order_by(*order).execution_options(yield_per=1_000)
    for row in connection.execute(statement):
        yield tuple(int(value) if isinstance(value, bool) else value for value in row)


def _compare_table(table: Table, expected: Connection, found: Connection) -> Iterator[Difference]:
    """Walk the same table of two indexes side by side."""
    columns = [column.name for column in table.columns]
    keys = [columns.index(column.name) for column in table.primary_key]
    walks = _rows(expected, table), _rows(found, table)
    one, other = (next(walk, None) for walk in walks)
    while one is not None or other is not None:
        if other is None or (one is not None and _place(one, keys) < _place(other, keys)):
            yield Difference(table.name, _key(one or (), keys), "", one, None)
            one = next(walks[0], None)
        elif one is None or _place(other, keys) < _place(one, keys):
            yield Difference(table.name, _key(other, keys), "", None, other)
            other = next(walks[1], None)
        else:
            for column, right, wrong in zip(columns, one, other, strict=True):
                if right != wrong:
                    yield Difference(table.name, _key(one, keys), column, right, wrong)
            one, other = next(walks[0], None), next(walks[1], None)


def _key(row: _Values, keys: Sequence[int]) -> _Values:
    return tuple(row[key] for key in keys)


def _place(row: _Values, keys: Sequence[int]) -> tuple[tuple[int, Any], ...]:
    """Return what orders rows, as SQLite does: numbers, then text, then bytes."""
    return tuple((_RANKS.get(type(value), 0), value) for value in _key(row, keys))
