"""One SQL database: opened and migrated on first use, read by any thread, written by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from flowcraft.errors import StoreError
from flowcraft.storage.migrations import HEAD, VERSION_TABLE
from flowcraft.storage.sqlite import WRITES, SQLite


class Database:
    """A database by its URL, ``sqlite:///PATH``. Nothing is opened before the first use.

    ``timeout`` is how long, in seconds, to wait for other processes that write. One that is ``read_only`` is neither created
    nor changed. Errors of the driver come as StoreError.
    """

    def __init__(self, url: str | URL, *, echo: bool = False, timeout: float = 30.0, read_only: bool = False) -> None:
        self.dialect = SQLite(_parse(url), timeout)
        self.read_only = read_only
        self._echo = echo
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._engine: Engine | None = None
        self._writer: Connection | None = None

    @property
    def engine(self) -> Engine:
        """The open engine, its schema up to date."""
        if self._engine is None:
            with self._opening, self._explained():
                if self._engine is None:
                    self._engine = self._open()
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read in one transaction, which sees one state of the database and keeps nobody from writing."""
        engine = self.engine
        with self._explained(), engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Write in one transaction; it holds the write lock from its beginning and is rolled back if the block raises."""
        engine = self.engine
        with self._writing, self._explained():
            connection = self._writing_connection(engine)
            with connection.begin():
                yield connection

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """Write in one transaction through the driver's own cursor (PEP 249): for what must cost next to nothing."""
        engine = self.engine
        with self._writing, self._explained():
            driver = self._writing_connection(engine).connection.driver_connection
            assert driver is not None
            cursor = driver.cursor()
            try:
                cursor.execute(self.dialect.begin)
                yield cursor
                driver.commit()
            except BaseException:
                driver.rollback()
                raise
            finally:
                cursor.close()

    def readable(self) -> bool:
        """Say whether there is a database of this version's schema to read from; nothing is created for that."""
        if not Path(self.dialect.path).is_file():
            return False
        with self.read() as connection:
            return self._is_current(connection)

    def close(self) -> None:
        """Close every connection. A later use opens the database again."""
        with self._opening, self._writing:
            writer, engine = self._writer, self._engine
            self._writer = self._engine = None
            if writer is not None:
                writer.close()
            if engine is not None:
                engine.dispose()

    def _writing_connection(self, engine: Engine) -> Connection:
        if self._writer is None:
            self._writer = engine.connect().execution_options(**{WRITES: True})
        return self._writer

    def _open(self) -> Engine:
        if self.read_only:
            return self.dialect.reading_engine(echo=self._echo)
        engine = self.dialect.engine(echo=self._echo)
        try:
            with engine.connect() as connection:
                current = self._is_current(connection)
            if not current:
                self._migrate(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def _is_current(self, connection: Connection) -> bool:
        if not inspect(connection).has_table(VERSION_TABLE):
            return False
        version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608  a constant
        if not isinstance(version, str) or version > HEAD:
            raise StoreError(
                f"database {self.dialect.path} has schema {version!r}, this FlowCraft knows schemas up to {HEAD!r}: "
                "upgrade FlowCraft, or name another database in `storage`"
            )
        return version == HEAD

    def _migrate(self, engine: Engine) -> None:
        from flowcraft.storage.migrations.upgrade import upgrade

        with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
            self.dialect.lock_for_migration(connection)
            if not self._is_current(connection):  # another process may have been faster
                upgrade(connection)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, *self.dialect.errors) as error:
            raise self.dialect.explain(error) from error


def _parse(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"storage {url!r} is no database URL; write sqlite:///PATH") from None
    if parsed.drivername != "sqlite":
        raise StoreError(f"storage: {parsed.drivername!r} is not supported; write sqlite:///PATH")
    return parsed
