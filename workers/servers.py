"""The servers of a fleet as an operator's question finds them: through an adopted application, or by settings alone."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from celery import Celery

from managers import db
from managers.db.records import ServiceRecord
from managers.drivers import load_db_driver
from managers.errors import DatabaseError, ManagerError
from managers.manager import DB_DRIVER
from scheduler.table import Table
from workers.config import PREFIX, Settings, load_settings
from workers.console.reading import database_url, open_table
from workers.registry import registry_of

#: What an operator's functions take for the fleet that they are about: an adopted application, settings, or None for
#: the fleet that this process's environment names.
Fleet = Celery | Settings | None


@dataclass(frozen=True, slots=True)
class Servers:
    """The table of one fleet, and the way to its database."""

    settings: Settings
    table: Table
    _use_database: Callable[[], AbstractContextManager[None]]

    @contextmanager
    def database(self) -> Iterator[ModuleType]:
        """Return a block in which the functions of the fleet's database driver, which it gets, use its database.

        Raises:
            DatabaseError: it can't be used, or the driver lacks what is asked for.
        """
        path = self.settings.db_driver
        try:
            with self._use_database():
                yield load_db_driver(path)
        except ManagerError:
            raise
        except Exception as error:
            if path == DB_DRIVER:
                raise
            raise DatabaseError(f"{path}: {type(error).__name__}: {error}; check {PREFIX}DB_DRIVER") from error

    def records(self) -> list[ServiceRecord]:
        """Return the registry. Raises DatabaseError."""
        with self.database() as module:
            found: list[ServiceRecord] = module.service_get_all()
            return found


@contextmanager
def reach(fleet: Fleet) -> Iterator[Servers]:
    """Return a block that gets the servers of *fleet*; nothing is asked yet.

    Raises:
        NotAdopted: an application that was given no managers.
        InvalidSettings: a setting can't be used.
    """
    if isinstance(fleet, Celery):
        registry = registry_of(fleet)
        yield Servers(registry.settings, registry.table, registry.database)
        return
    settings = load_settings() if fleet is None else fleet
    with open_table(settings) as table:
        yield Servers(settings, table, partial(_by_settings, settings))


@contextmanager
def _by_settings(settings: Settings) -> Iterator[None]:
    with db.using(database_url(settings)):
        yield


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what a message adds for a *name* that isn't among the *known* ones."""
    names = sorted(known)
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(names[:20]) or 'none at all'}{' and more' if len(names) > 20 else ''}"
