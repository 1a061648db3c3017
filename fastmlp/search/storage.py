"""Where trials are kept: an SQLite file, or PostgreSQL for several machines; and who may decide about them.

Optuna keeps studies and trials. What several workers must agree on (who takes which trial, whether a stage is over) is
decided by one of them at a time, under a lock that ends with its holder, however that ends.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastmlp.errors import ConfigError, FastMLPError, MissingExtraError, OutputError
from fastmlp.files import without_password

BEAT = 5                # seconds between two signs of life of a worker
GRACE = 30              # seconds without one, after which its trials are given to others
PATIENCE = 120          # seconds to wait for the lock or a busy database
LOCKED = "55P03"        # PostgreSQL's word for that nobody may have the lock for longer
#: A server asks after a silent client, so that the lock of a machine that lost its power is free in a minute.
KEEPALIVE = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"


def import_optuna() -> Any:
    """Optuna, quiet.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("a search needs Optuna: pip install 'fastmlp[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Storage:
    """A database of studies.

    Parameters
    ----------
    where : str or Path
        An SQLite file, or a URL that begins with `postgresql://` (`sqlite:///` does as well).

    Raises
    ------
    ConfigError, MissingExtraError
        Another kind of database; or Optuna or the database's driver is missing.
    OutputError
        The database cannot be used.
    """

    def __init__(self, where: str | Path) -> None:
        optuna = import_optuna()
        import sqlalchemy

        self.name, url, connecting = _address(str(where))
        self._file: Path | None = Path(self.name) if url.startswith("sqlite:") else None
        engine: dict[str, Any] = {"connect_args": connecting, "pool_pre_ping": True}
        self._locking = sqlalchemy.create_engine(url, **engine)         # beside Optuna's own, which makes tables
        try:
            with self.explaining(), self.lock(), quiet_warnings():      # of several that begin at once one makes them
                self.optuna = optuna.storages.RDBStorage(url, engine_kwargs=engine, heartbeat_interval=BEAT,
                                                         grace_period=GRACE)
        except BaseException as error:
            self._locking.dispose()
            if isinstance(error, RuntimeError):         # so Optuna tells of tables that another version made
                raise OutputError(f"the database {self.name} cannot be used ({without_password(str(error))[:200]}): "
                                  f"name another with --storage") from error
            raise

    def close(self) -> None:
        """Leave the database."""
        self.optuna.engine.dispose()
        self._locking.dispose()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Within this context no other worker decides anything.

        A transaction on a file beside the database, or an advisory lock of a PostgreSQL session: either ends with the
        process. One that is stopped, but not ended, keeps it; others then wait for two minutes and say so.
        """
        if self._file is not None:
            beside = sqlite3.connect(f"{self._file}.lock", timeout=PATIENCE, isolation_level=None)
            try:
                beside.execute("BEGIN EXCLUSIVE")
                yield
            finally:
                beside.close()
            return
        import sqlalchemy

        with self._locking.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(b"fastmlp")})
            yield
            connection.rollback()

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Within this context what a database complains about becomes one sentence."""
        import sqlalchemy.exc

        try:
            yield
        except (sqlalchemy.exc.SQLAlchemyError, import_optuna().exceptions.StorageInternalError,
                sqlite3.Error) as error:
            cause = getattr(error.__cause__ or error, "orig", None) or error.__cause__ or error
            if (getattr(cause, "sqlstate", None) == LOCKED
                    or getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY):
                raise OutputError(f"the database {self.name} has been locked for {PATIENCE} s, maybe by a worker that "
                                  f"was stopped: let it go on or end it, and repeat the command") from error
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
            raise OutputError(f"the database {self.name} cannot be used ({without_password(lines[0])}): finished "
                              f"trials are kept there; correct --storage, or repeat the command once it can") from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within this context, in which only what the database holds is looked at, what it should not hold is told."""
        try:
            yield
        except FastMLPError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise OutputError(f"the database {self.name} holds what no search of fastmlp wrote "
                              f"({type(error).__name__}: {without_password(str(error))[:200]}): name another --out, "
                              f"--storage or --study") from error

    @contextmanager
    def alive(self, trial_ids: Sequence[int]) -> Iterator[None]:
        """Within this context the trials are known to be worked at."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(BEAT):
                # A sign of life that is lost is no harm, and the next call that matters tells what is wrong.
                with contextlib.suppress(OutputError), self.explaining(), self.lock():
                    for trial_id in trial_ids:
                        self.optuna.record_heartbeat(trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _address(where: str) -> tuple[str, str, dict[str, Any]]:
    """How the database is called, its URL for SQLAlchemy, and what its driver is told."""
    import sqlalchemy

    scheme, separator, rest = where.partition("://")
    if not separator or scheme == "sqlite":
        path = (sqlalchemy.make_url(where).database or "") if separator else where
        if not path:
            raise ConfigError(f"--storage {where!r}: no file, which is as search.db or sqlite:///search.db")
        if not Path(path).parent.is_dir():
            raise OutputError(f"--storage {where}: the folder {Path(path).parent} does not exist: make it, or name "
                              f"another file")
        url = sqlalchemy.URL.create("sqlite", database=path)            # whatever its name holds, as ? or %
        return path, url.render_as_string(), {"timeout": PATIENCE}
    if scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ConfigError(f"--storage {without_password(where)}: neither an SQLite file nor a postgresql:// address")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("a search in PostgreSQL needs psycopg: pip install 'fastmlp[postgresql]'") from error
    address = f"postgresql+psycopg://{rest}"
    try:
        sqlalchemy.make_url(address)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise ConfigError(f"--storage {without_password(where)}: not an address, which is as "
                          f"postgresql://USER:PASSWORD@HOST:PORT/DATABASE") from error
    return without_password(where), address, {"connect_timeout": 10,
                                              "options": f"{KEEPALIVE} -c lock_timeout={1000 * PATIENCE:.0f}"}


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Optuna warns of what is experimental: some samplers, and signs of life outside its own loop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
