"""A report: what a host says of all its services once per period, and how it travels.

The wire form is one JSON object, the only argument of the task ``scheduler.update_service_capabilities``::

    {"host": "rack1-07", "boot": 1795359600000, "sequence": 3, "interval": 60.0, "version": "0.1.0",
     "services": {"host": {"cpus": 8, "zone": "a"}, "network": null},
     "at": 1795359660.25, "claims": [{"id": "5f0c...", "attempt": 1, "is_begun": true,
                                      "amounts": {"host/rack1-07": {"slots": 1000}}, }]}

A service's value replaces all that was known of it; null says "alive" and changes nothing; {} retracts everything.
``claims`` are those that the host really held at the moment ``at`` of the fleet's clock; without them nothing is said
of them. Those that are not ``is_begun`` it may or may not run: they need no more than ``id`` and ``attempt``. One that
breaks a limit is told as one of them: to leave it out would say that it ended. Both ends check the same limits: the
sender so that the culprit gets the error, the receiver because it trusts nobody.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from celery import Celery

from managers.errors import InvalidName, InvalidReport, shown
from managers.routing import check_host, check_service, service_queue

logger = logging.getLogger(__name__)

Scalar = bool | int | float | str
Value = Scalar | list[Scalar]
Capabilities = Mapping[str, Value]

#: The task that carries a report.
REPORT_TASK = "scheduler.update_service_capabilities"

#: Letters of a key.
MAX_KEY = 128
#: Bytes of one service's capabilities as JSON.
MAX_BYTES = 64 * 1024
#: Keys of one service's capabilities.
MAX_KEYS = 256
#: Entries of one list.
MAX_LIST = 1000
#: Services of one host.
MAX_SERVICES = 64
#: Claims of one host.
MAX_CLAIMS = 10_000
#: Bytes of them as JSON.
MAX_CLAIM_BYTES = 768 * 1024
#: Letters of a claim's texts, but of its id.
MAX_TEXT = 1024
#: What a claim that was begun says of itself.
CLAIM_KEYS = frozenset({"id", "attempt", "task_id", "task", "service", "host", "is_late", "amounts"})
#: Bytes of a whole report on the wire.
MAX_REPORT_BYTES = 1024 * 1024
#: The largest integer that JSON, Lua and a float all hold exactly.
MAX_NUMBER = 2**53

#: What a capability may be called.
KEY = re.compile(rf"[A-Za-z0-9_.:-]{{1,{MAX_KEY}}}", re.ASCII)
#: What a claim's id may be: it stands beside hosts and attempts in Redis.
_ID = re.compile(r"[!-9;-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Report:
    """What a host says of its services; (boot, sequence) orders the reports of one host.

    ``interval`` is the sender's own time between two reports, in seconds: the table judges staleness by it.
    """

    host: str
    boot: int
    sequence: int
    interval: float
    version: str
    services: Mapping[str, Capabilities | None]
    at: float = 0.0
    claims: tuple[Mapping[str, Any], ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "host": self.host,
            "boot": self.boot,
            "sequence": self.sequence,
            "interval": self.interval,
            "version": self.version,
            "services": {service: known if known is None else dict(known) for service, known in self.services.items()},
            **({} if self.claims is None else {"at": self.at, "claims": list(self.claims)}),
        }

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Return the report in *values*, a decoded JSON value of unknown origin.

        Raises:
            InvalidReport: the message names the sender as far as it could be read, the fault and the limit.
        """
        if not isinstance(values, dict):
            raise InvalidReport(f"a report is a JSON object, not {shown(values)}")
        sender = shown(values.get("host"))
        try:
            return cls(
                host=check_host(values.get("host")),  # type: ignore[arg-type]  # it checks the type too
                boot=_integer("boot", values.get("boot")),
                sequence=_integer("sequence", values.get("sequence")),
                interval=_interval(values.get("interval")),
                version=_version(values.get("version")),
                services=_services(values.get("services")),
                at=_moment(values.get("at", 0.0)),
                claims=_claims(values.get("claims"), values["host"]),
            )
        except (InvalidReport, InvalidName) as error:
            raise InvalidReport(f"report from {sender} refused: {error}") from None


def check_capabilities(service: str, capabilities: object) -> Capabilities:
    """Return *capabilities* if they keep every limit, else raise InvalidReport naming service, key and value."""
    if not isinstance(capabilities, Mapping):
        raise InvalidReport(f"capabilities of {service} are {shown(capabilities)}, not a dict")
    if len(capabilities) > MAX_KEYS:
        raise InvalidReport(f"capabilities of {service} have {len(capabilities)} keys; the limit is {MAX_KEYS}")
    for key, value in capabilities.items():
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise InvalidReport(f"{service} has the key {shown(key)}: use 1 to 128 of A-Z a-z 0-9 _ . : -")
        _check_value(service, key, value)
    size = len(json.dumps(dict(capabilities)))
    if size > MAX_BYTES:
        raise InvalidReport(f"capabilities of {service} take {size} bytes as JSON; the limit is {MAX_BYTES}")
    return capabilities


def _check_value(service: str, key: str, value: object) -> None:
    if isinstance(value, list):
        if len(value) > MAX_LIST:
            raise InvalidReport(f"{service}.{key} lists {len(value)} values; the limit is {MAX_LIST}")
        for entry in value:
            _check_scalar(service, key, entry)
    else:
        _check_scalar(service, key, value)


def _check_scalar(service: str, key: str, value: object) -> None:
    if isinstance(value, bool | str):
        return
    if not isinstance(value, int | float):
        raise InvalidReport(f"{service}.{key} is {shown(value)}: use bool, int, float, str, or a list of those")
    if not -MAX_NUMBER <= value <= MAX_NUMBER:  # NaN is within nothing
        raise InvalidReport(f"{service}.{key} is {shown(value)}: numbers are finite and within ±2^53")


def _integer(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise InvalidReport(f"{name} is {shown(value)}, not a whole number from 0 to 2^53")
    return value


def _interval(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 86400:
        raise InvalidReport(f"interval is {shown(value)}, not seconds above 0 and up to a day")
    return float(value)


def _moment(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise InvalidReport(f"at is {shown(value)}, not seconds since 1970")
    return float(value)


def _claims(value: object, host: str) -> tuple[Mapping[str, Any], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_CLAIMS:
        raise InvalidReport(f"claims are {shown(value)}, not a list of up to {MAX_CLAIMS}")
    claims, faults = _sorted_out(value, host)
    if faults:
        logger.warning("%d claims of %s can't be counted: %s", len(faults), host, faults[0], extra={"host": host})
    return tuple(claims)


def _sorted_out(claims: Sequence[object], host: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Return *claims* as far as they can be told, and what is wrong with the others."""
    told, faults = [], []
    for claim in claims:
        try:
            told.append(check_claim(claim, host))
        except InvalidReport as error:
            faults.append(str(error))
            told += _held(claim)
    return told, faults


def check_claim(value: object, host: str) -> Mapping[str, Any]:
    """Return what is known of the claim in *value*, which may withdraw from *host* alone, else raise InvalidReport."""
    if not isinstance(value, dict):
        raise InvalidReport(f"{shown(value)} is no claim")
    if value.get("is_begun", True) is not True:
        if not (held := _held(value)):
            raise InvalidReport(f"{shown(value)} is no claim: its id or attempt is none")
        return held[0]
    if missing := sorted(CLAIM_KEYS - set(value)):
        raise InvalidReport(f"{shown(value)} is no claim: it lacks {', '.join(missing)}")
    if not _held(value):
        raise InvalidReport(f"{shown(value['id'])}, attempt {shown(value['attempt'])}, names no claim")
    for name in ("task_id", "task", "service"):
        text = value[name]
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT or not text.isprintable():
            raise InvalidReport(f"a claim's {name} is {shown(text)}, not a text of up to {MAX_TEXT} letters")
    if value["host"] != host or not isinstance(value["is_late"], bool) or not isinstance(value["amounts"], dict):
        raise InvalidReport(f"{shown(value)} is no claim of {host}")
    for member, amounts in value["amounts"].items():
        _check_amounts(member, amounts, host)
    return {**{name: value[name] for name in CLAIM_KEYS}, "is_begun": True}


def _check_amounts(member: object, amounts: object, host: str) -> None:
    if not isinstance(member, str) or member.partition("/")[2] != host or not isinstance(amounts, dict):
        raise InvalidReport(f"a claim of {host} withdraws {shown(amounts)} from {shown(member)}")
    for resource, amount in amounts.items():
        if not isinstance(resource, str) or not KEY.fullmatch(resource):
            raise InvalidReport(f"a claim of {host} withdraws of {shown(resource)}, which is no capability's name")
        _integer(f"what a claim withdraws of {resource}", amount)


def fit_claims(claims: Sequence[Mapping[str, Any]], host: str) -> tuple[Mapping[str, Any], ...] | None:
    """Return the *claims* of *host* within the limits; None, which says nothing of them, if it has too many."""
    held = [entry for claim in claims for entry in _held(claim)]
    left = MAX_CLAIM_BYTES - _size(held)
    if len(claims) > MAX_CLAIMS or left < 0:
        logger.error("%s holds %d claims, too many to report; the limit is %d", host, len(claims), MAX_CLAIMS)
        return None
    told, faults = _sorted_out(claims, host)
    if faults:
        logger.warning("%d claims of %s are not reported in full: %s", len(faults), host, faults[0])
    fitting = []
    for claim, bare in zip(told, held, strict=True):
        grows = _size(claim) - _size(bare)
        fitting.append(claim if grows <= left else bare)
        left -= grows if grows <= left else 0
    return tuple(fitting)


def _held(value: object) -> list[Mapping[str, Any]]:
    """Return the claim in *value* as one that may not be begun; none if nobody can tell which it is."""
    if not isinstance(value, Mapping):
        return []
    name, attempt = value.get("id"), value.get("attempt")
    if (
        not isinstance(name, str)
        or not _ID.fullmatch(name)
        or not isinstance(attempt, int)
        or isinstance(attempt, bool)
    ):
        return []
    return [{"id": name, "attempt": attempt, "is_begun": False}] if 0 <= attempt <= MAX_NUMBER else []


def _size(value: object) -> int:
    return len(json.dumps(value)) + 2  # and the comma between two


def _version(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise InvalidReport(f"version is {shown(value)}, not a text of up to 64 letters")
    return value


def _services(value: object) -> Mapping[str, Capabilities | None]:
    if not isinstance(value, dict) or not value:
        raise InvalidReport(f"services are {shown(value)}, not an object of at least one service")
    if len(value) > MAX_SERVICES:
        raise InvalidReport(f"it names {len(value)} services; the limit is {MAX_SERVICES}")
    return {
        check_service(service): known if known is None else check_capabilities(service, known)
        for service, known in value.items()
    }


def send_report(app: Celery, report: Report) -> None:
    """Send *report* to the scheduler's queue, as a task by name; in eager mode it is taken in at once.

    A broker that drops expired messages (RabbitMQ) drops it after three of its intervals, when its host is stale
    anyway; on Redis it waits, and the newest wins.

    Raises:
        kombu.exceptions.OperationalError: the broker doesn't answer; the report is not queued.
    """
    options: dict[str, Any] = {
        "queue": service_queue("scheduler"),
        "expires": 3 * report.interval,
        "ignore_result": True,
        "serializer": "json",
        "retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2},
    }
    if app.conf.task_always_eager:
        app.tasks[REPORT_TASK].apply_async((report.to_dict(),), **options)  # send_task is never eager
    else:
        app.send_task(REPORT_TASK, (report.to_dict(),), **options)
