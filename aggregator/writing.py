"""The writing side of the index: rows are gathered and go to the database many at a time."""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from sqlalchemy import Boolean, Connection, bindparam, delete, inspect, update
from sqlalchemy.exc import DBAPIError

from aggregator.tables import Table, Unsigned64

BATCH = 20_000  # rows that wait at most
REMEMBERED = 50_000  # rows that stay in memory because they may change again
KNOWN = 500_000  # rows of which it stays in memory that they are there

Values: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[Any, ...]
RowType: TypeAlias = type[Table]
_Place: TypeAlias = tuple[RowType, Key]


class Writing:
    """Gathers what a transaction writes; the rows come out as if each were written at once.

    Rows that nothing changes later are added, and wait in a list. Rows that may change are found
    or kept: read at most once, changed in memory, and written in the end. Whoever writes or reads
    in the same transaction by other means calls `flush` first.

    Args:
        connection: In a transaction, which the caller commits.
        written: The rows that there are already and that may be found; None where nobody knows.
            What is neither among them nor kept since is then not asked for.
    """

    def __init__(self, connection: Connection, written: Iterable[_Place] | None = None) -> None:
        self._connection = connection
        self._layouts: dict[RowType, _Layout] = {}
        self._added: dict[RowType, list[Values]] = {}
        self._waiting = 0
        self._rows: dict[_Place, Values] = {}
        self._new: dict[_Place, None] = {}
        self._changed: dict[_Place, None] = {}
        self._notes: dict[Key, Any] = {}
        # Hashes are enough: where two places share one, a row is asked for that is not there.
        self._places = None if written is None else set(map(hash, written))

    def add(self, row_type: RowType, values: Values) -> None:
        """Write a row, whose columns are all given, that nothing changes in this transaction."""
        self._added.setdefault(row_type, []).append(values)
        self._waiting += 1
        if self._waiting >= BATCH:
            self._write_added()

    def keep(self, row_type: RowType, values: Values) -> None:
        """Write a row, whose columns are all given, that may be found and changed."""
        place = (row_type, self._layout(row_type).key_of(values))
        if place in self._rows:
            self.add(row_type, values)  # the second of two equal keys is the database's to refuse
        else:
            self._rows[place] = values
            self._new[place] = None
            if self._places is not None:
                self._places.add(hash(place))

    def find(self, row_type: RowType, *key: Any) -> Values | None:
        """Return a row by its primary key, None where there is none; `change` changes it."""
        found = self._rows.get((row_type, key))
        if found is None and (self._places is None or hash((row_type, key)) in self._places):
            found = self._layout(row_type).read(self._connection, key)
            if found is not None:
                self._rows[row_type, key] = found
        return found

    def change(self, row_type: RowType, key: Key, **values: Any) -> None:
        """Change columns of a row; where there is no such row, nothing."""
        row = self.find(row_type, *key)
        if row is not None:
            row.update(values)
            self._changed[row_type, key] = None

    def count(self, row_type: RowType, key: Key, column: str, by: int = 1) -> None:
        """Add to a count in a row, which is made where it is not there, with nothing else in it."""
        row = self.find(row_type, *key)
        if row is None:
            row = self._layout(row_type).zeros(key)
            self.keep(row_type, row)
        row[column] += by
        self._changed[row_type, key] = None

    def remove(self, row_type: RowType, *key: Any) -> None:
        """Delete a row, at once."""
        layout = self._layout(row_type)
        self.flush().execute(layout.deletion, layout.named(key))
        self._rows.pop((row_type, key), None)

    def note(self, key: Key, value: Any) -> None:
        """Remember what a later event will ask for; it is written nowhere and may be forgotten."""
        self._notes[key] = value

    def noted(self, key: Key) -> Any | None:
        """Return what was noted, None where nothing was or it is forgotten."""
        return self._notes.get(key)

    def flush(self) -> Connection:
        """Write all that waits, and lend the connection for statements of another kind."""
        self._write_added()
        self._write_kept()
        return self._connection

    def relieve(self) -> None:
        """Write and forget the rows in memory where they have become many."""
        if len(self._rows) > REMEMBERED:
            self.flush()
            self._rows.clear()
        if self._places is not None and len(self._places) > KNOWN:
            self._places = None
        if len(self._notes) > REMEMBERED:
            self._notes.clear()

    def _write_added(self) -> None:
        for row_type, rows in self._added.items():
            self._layout(row_type).write(self._connection, rows)
        self._added.clear()
        self._waiting = 0

    def _write_kept(self) -> None:
        new: dict[RowType, list[Values]] = {}
        changed: dict[RowType, list[Values]] = {}
        for place in self._new:
            new.setdefault(place[0], []).append(self._rows[place])
        for place in self._changed:
            if place not in self._new:
                changed.setdefault(place[0], []).append(self._rows[place])
        for row_type, rows in new.items():
            self._layout(row_type).write(self._connection, rows)
        for row_type, rows in changed.items():
            self._layout(row_type).overwrite(self._connection, rows)
        self._new.clear()
        self._changed.clear()

    def _layout(self, row_type: RowType) -> "_Layout":
        layout = self._layouts.get(row_type)
        if layout is None:
            layout = self._layouts[row_type] = _Layout(row_type, self._connection)
        return layout


class _Layout:
    """How the rows of a table are read and written, in one dialect."""

    def __init__(self, row_type: RowType, connection: Connection) -> None:
        table = Table.metadata.tables[row_type.__tablename__]
        quote = connection.dialect.identifier_preparer.quote_identifier
        self._columns = [column.name for column in table.columns]
        self._keys = [column.name for column in inspect(row_type).primary_key]
        self._unsigned = [c.name for c in table.columns if isinstance(c.type, Unsigned64)]
        self._nothing = {c.name: None if c.nullable else 0 for c in table.columns}
        self._values = itemgetter(*self._columns)
        self._name = quote(table.name)
        self._names = ", ".join(map(quote, self._columns))
        is_key = [table.columns[name] == bindparam(f"key_{name}") for name in self._keys]
        # In the driver's own words, since most of these reads find nothing.
        mark = "%s" if connection.dialect.name == "postgresql" else "?"
        which = " AND ".join(f"{quote(name)} = {mark}" for name in self._keys)
        self._selection = f"SELECT {self._names} FROM {self._name} WHERE {which}"  # noqa: S608
        self._flags = [c.name for c in table.columns if isinstance(c.type, Boolean)]
        self.deletion = delete(table).where(*is_key)
        others = [name for name in self._columns if name not in self._keys]
        self._replacement = (
            update(table).where(*is_key).values({name: bindparam(f"new_{name}") for name in others})
        )
        self._others = others

    def key_of(self, values: Mapping[str, Any]) -> Key:
        return tuple([values[name] for name in self._keys])

    def named(self, key: Sequence[Any]) -> Values:
        return {f"key_{name}": value for name, value in zip(self._keys, key, strict=True)}

    def zeros(self, key: Key) -> Values:
        return self._nothing | dict(zip(self._keys, key, strict=True))

    def read(self, connection: Connection, key: Key) -> Values | None:
        found = connection.exec_driver_sql(self._selection, tuple(key)).one_or_none()
        if found is None:
            return None
        row = dict(zip(self._columns, found, strict=True))
        row |= {name: None if row[name] is None else int(row[name]) for name in self._unsigned}
        return row | {name: None if row[name] is None else bool(row[name]) for name in self._flags}

    def write(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Insert rows by the fastest way that the database has."""
        found = map(self._values, map(self._bound, rows) if self._unsigned else rows)
        if connection.dialect.name == "postgresql":
            _copy(connection, f"COPY {self._name} ({self._names}) FROM STDIN", found)
        else:
            places = ", ".join("?" * len(self._columns))
            statement = f"INSERT INTO {self._name} ({self._names}) VALUES ({places})"  # noqa: S608
            connection.exec_driver_sql(statement, list(found))

    def overwrite(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Write rows over those with the same keys."""
        values = [
            {f"key_{name}": row[name] for name in self._keys}
            | {f"new_{name}": row[name] for name in self._others}
            for row in rows
        ]
        connection.execute(self._replacement, values)

    def _bound(self, row: Values) -> Values:
        """Return the values as the database's driver takes them."""
        digits = {
            name: None if row[name] is None else f"{row[name]:020d}" for name in self._unsigned
        }
        return {**row, **digits}


def _copy(connection: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Write rows by PostgreSQL's COPY, which psycopg has and SQLAlchemy does not."""
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(statement, None, error) from error
