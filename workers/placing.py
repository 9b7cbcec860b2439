"""How a process takes part in placement: its tasks are handed over, its scheduler hears of them."""

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from celery import Celery
from celery.worker import state
from kombu import Message

from managers.drivers import load_function
from scheduler import filters, weighers
from scheduler.pending import Pending
from scheduler.placer import Placer
from scheduler.placing import PLACE_TASK, Placing, set_placing
from scheduler.select import Selector
from workers.carried import RETRY, Carried
from workers.config import PREFIX, Settings
from workers.dispatch import dispatch
from workers.eager_placing import place_here
from workers.errors import InvalidSettings
from workers.intake import acknowledge
from workers.placed import under_claim
from workers.registry import Registry, registry_of

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether requests that came in an announcement are recorded.
LOOK = 0.1


def register_placing(app: Celery, registry: Registry) -> None:
    """Have tasks of *app* placed, and its scheduler hear of them.

    Raises:
        DriverNotFound, InvalidSettings: a setting of the placement can't be used.
    """
    settings = registry.settings
    chosen = selector(settings)
    registry.make_placer = partial(make_placer, registry, chosen)
    set_placing(
        app,
        Placing(
            app=app,
            table=lambda: registry.table,
            start_deadline=settings.start_deadline,
            max_attempts=settings.max_attempts,
            placement_timeout=settings.placement_timeout or None,
            broker_is_redis=settings.broker_is_redis,
            request_class="workers.placed:PlacedRequest",
            entered=partial(under_claim, registry),
            place_here=partial(place_here, registry, chosen),
        ),
    )

    def place(what: dict[str, Any]) -> None:
        announce(registry, what)

    app.task(
        name=PLACE_TASK, Strategy="workers.placing:place_strategy", shared=False, ignore_result=True, serializer="json"
    )(place)


def make_placer(registry: Registry, chosen: Selector) -> Placer:
    """Return the placer of a scheduler's process."""
    return Placer(
        registry.table,
        dispatch=partial(dispatch, registry.app),
        selector=chosen,
        prune=lambda: registry.scheduler().prune(),
        revoked=lambda: state.revoked,
    )


def selector(settings: Settings) -> Selector:
    """Return the filters and weighers that the settings name, beside the built-in filters, which always count.

    Raises:
        DriverNotFound: FILTERS or WEIGHERS name what can't be loaded.
        InvalidSettings: a weigher's multiplier is no number.
    """
    own = [load_function(path, f"{PREFIX}FILTERS") for path in settings.filters]
    weighed = dict(weighers.BUILT_IN)
    for entry in settings.weighers:
        path, _, multiplier = entry.partition("=")
        try:
            number = float(multiplier or 1.0)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InvalidSettings(f"{PREFIX}WEIGHERS has {entry!r}; write NAME=MULTIPLIER, such as free=1.5")
        weighed[path] = (weighed[path][0] if path in weighed else load_function(path, f"{PREFIX}WEIGHERS"), number)
    return Selector(filters=(*filters.BUILT_IN, *own), weighers=weighed)


def announce(registry: Registry, what: Mapping[str, Any]) -> None:
    """Take an announcement in: of a shape, or of requests whose sender could not record them.

    Raises:
        TableUnavailable: they are not recorded; the message may come again.
        InvalidPlacement, InvalidRequirement: it is none.
    """
    if "shape" in what:
        registry.placer.notice(str(what["shape"]))
        return
    if (shape := Carried(what).record(Pending(registry.table))) is not None:
        registry.placer.notice(shape)


def place_strategy(task: Any, app: Celery, consumer: Any, **_: Any) -> Callable[..., None]:  # noqa: ARG001
    """Return what Celery's consumer calls with each announcement: in the main process, beside the pool."""
    registry = registry_of(app)

    def on_message(message: Message, *_: Any) -> None:
        try:
            (what,), _, _ = message.payload
            if "shape" not in what:
                take(Carried(what), message)
                return
            announce(registry, what)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not come again
            logger.error("announcement refused: %s", error)  # noqa: TRY400
        acknowledge(message)

    def take(carried: Carried, message: Message) -> None:
        taken = registry.carried.take(carried)
        if taken is None:
            consumer.timer.call_after(RETRY, take, (carried, message))
        else:
            look(taken, message)

    def look(carried: Carried, message: Message) -> None:
        if carried.is_over:
            acknowledge(message)
        else:
            consumer.timer.call_after(LOOK, look, (carried, message))

    return on_message
