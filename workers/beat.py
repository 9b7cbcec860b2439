"""Beat's entries: one tick per service and period, at the period's beginning by the fleet's clock."""

import logging
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from celery import Celery
from celery.schedules import schedstate, schedule
from celery.signals import beat_init

from managers.periods import period_number
from workers.registry import Registry, is_adopted, registry_of
from workers.ticks import refresh_clock, tick_name

logger = logging.getLogger(__name__)

#: Seconds after a period's beginning at which beat fires: clear of the boundary, so that two beats agree on the number.
LAG = 0.03


class Periods(schedule):
    """Due once in every period of the fleet's clock, so that beats need not know of each other.

    A plain Celery schedule counts from its own last run and drifts: sooner or later it steps over a period. Celery's
    default beat pickles its entries and forgets whose they are, so a schedule remembers its application's name.
    """

    main: str | None = None
    _app: Celery | None

    def __reduce__(self) -> Any:
        return _unpickled, (float(self.seconds), self._owner().main)

    def is_due(self, last_run_at: datetime) -> Any:
        """Return whether this period has not been ticked yet, and the seconds until the next begins."""
        interval = float(self.seconds)
        registry = registry_of(self._owner())
        refresh_clock(registry)
        now = registry.clock.now()
        ahead = now - datetime.now(UTC).timestamp()
        last = self.maybe_make_aware(last_run_at).timestamp() + ahead
        number = period_number(now, interval)
        remaining = (number + 1) * interval - now + min(LAG, interval / 10)
        return schedstate(is_due=period_number(last, interval) < number, next=remaining)

    def _owner(self) -> Celery:
        return self._app or _owners.get(self.main) or self.app


#: The applications whose beats tick, by name.
_owners: WeakValueDictionary[str | None, Celery] = WeakValueDictionary()


def _unpickled(interval: float, main: str | None) -> Periods:
    made = Periods(run_every=interval)
    made.main = main
    return made


def add_entries(app: Celery, registry: Registry) -> None:
    """Add a tick for every service that *app* knows to its beat schedule; entries of the same name are replaced."""
    _owners[app.main] = app
    app.conf.beat_schedule = {**app.conf.beat_schedule, **_entries(registry)}
    beat_init.connect(_restore, dispatch_uid="celeriac.beat")


def _restore(*, sender: Any, **_: Any) -> None:
    """Give a starting beat the ticks that an application lost by assigning its schedule after it was adopted."""
    if not is_adopted(sender.app):
        return
    scheduler = sender.scheduler
    lost = {name: entry for name, entry in _entries(registry_of(sender.app)).items() if name not in scheduler.schedule}
    if lost:
        logger.info("beat_schedule was assigned after celeriac_app; %d ticks are added to it again", len(lost))
        scheduler.update_from_dict(lost)


def _entries(registry: Registry) -> dict[str, dict[str, Any]]:
    interval = registry.settings.periodic_interval
    return {
        f"celeriac: {tick_name(service)}": {"task": tick_name(service), "schedule": Periods(run_every=interval)}
        for service in registry.managers
    }
