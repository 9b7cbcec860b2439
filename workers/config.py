"""The settings, read once: environment variables ``CELERIAC_*``, then the fleet found in the state directory."""

import difflib
import json
import os
import re
import socket
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from managers.errors import InvalidName
from managers.labels import parse_labels
from managers.manager import DB_DRIVER
from managers.reports import Value
from managers.routing import check_host, check_service
from scheduler.connections import shown
from workers.errors import InvalidSettings

PREFIX = "CELERIAC_"

#: The state directory, in the current folder.
DEFAULT_DIR = ".celeriac"

#: The file in the state directory by which commands find the fleet that runs there.
FLEET_FILE = "fleet.json"

_DRIVER = re.compile(r"CELERIAC_[A-Z0-9_]+_DRIVER")
#: What a table's address begins with.
_TABLE_SCHEMES = ("redis://", "rediss://", "unix://", "memory://")
_LOCAL_REDIS = "redis://127.0.0.1:6379/0"
_Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """What an operator may say; the environment's names are these in capitals with the prefix ``CELERIAC_``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    dir: Path = Field(Path(DEFAULT_DIR), description="state directory: embedded servers, SQLite, what hosts remember")
    broker_url: str = Field(_LOCAL_REDIS, description="Celery's broker: redis://, rediss:// or amqp://")
    table_url: str = Field("", description="Redis of the capability table; default: the broker if it is a Redis")
    result_backend: str = Field("", description="Celery's result backend; default: the table's Redis")
    database_url: str = Field("", description="sqlite:/// or postgresql://; default: SQLite in the state directory")
    db_driver: str = Field(DB_DRIVER, description="module of database functions, by dotted path")
    fleet: str = Field("fleet", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="name of the table's keys in Redis")
    host: str = Field(default_factory=socket.gethostname, description="this worker's name in the fleet")
    managers: _Names = Field(("managers.host:HostManager",), description="every manager of the fleet, pkg.mod:Class")
    services: _Names = Field((), description="services this worker runs; default: all of MANAGERS")
    tasks: _Names = Field((), description="modules of ordinary Celery tasks to import")
    labels: str = Field("", description="what the operator says this host can do: zone=a,disk=ssd")
    call_timeout: float = Field(60.0, gt=0, le=86400, description="seconds that call and gather wait for an answer")
    cast_expires: float = Field(
        3600.0, gt=0, description="seconds until a message to one host, not started, is dropped"
    )
    periodic_interval: float = Field(60.0, ge=0.1, le=86400, description="seconds between two ticks")
    heartbeat_interval: float = Field(10.0, ge=0.1, le=3600, description="seconds between two signs of presence")
    start_deadline: float = Field(
        30.0, ge=0.1, le=86400, description="seconds in which a host must begin a task that was placed on it"
    )
    max_attempts: int = Field(3, ge=1, le=1000, description="places a task is given before it fails for want of one")
    placement_timeout: float = Field(0.0, ge=0, description="seconds a task may wait for a place; 0: no end")
    filters: _Names = Field((), description="filters of your own beside the built-in ones, pkg.mod:function")
    weighers: _Names = Field((), description="weighers, NAME=MULTIPLIER; pkg.mod:function for your own")
    history_days: float = Field(30.0, ge=0, description="days that the history of placements is kept; 0: none is")
    shutdown_timeout: float = Field(60.0, ge=0, description="seconds a stopping worker's tasks may run on; 0: no end")

    @field_validator("managers", "services", "tasks", "filters", "weighers", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        return check_host(value)

    @field_validator("table_url")
    @classmethod
    def _table(cls, value: str) -> str:
        if value and not value.startswith(_TABLE_SCHEMES):
            raise ValueError(f"this names no Redis for the table: use one of {', '.join(_TABLE_SCHEMES)}")
        return value

    @field_validator("services")
    @classmethod
    def _services(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_service(service) for service in value)

    @field_validator("labels")
    @classmethod
    def _labels(cls, value: str) -> str:
        parse_labels(value)
        return value

    @cached_property
    def parsed_labels(self) -> dict[str, Value]:
        """The labels as capabilities."""
        return parse_labels(self.labels)

    @property
    def table_address(self) -> str:
        """Where the capability table is."""
        return self.table_url or (self.broker_url if self.broker_url.startswith(_TABLE_SCHEMES) else _LOCAL_REDIS)

    @property
    def results_address(self) -> str:
        """Where results are kept."""
        return self.result_backend or self.table_address

    @property
    def database_address(self) -> str:
        """Where the database is."""
        return self.database_url or f"sqlite:///{self.dir.absolute() / 'celeriac.db'}"

    @property
    def broker_is_redis(self) -> bool:
        """Whether the broker speaks Redis's protocol."""
        return self.broker_url.startswith(("redis://", "rediss://", "sentinel://", "redis+socket://"))

    @property
    def host_dir(self) -> Path:
        """Where this host's processes share what they remember."""
        return self.dir.absolute() / "hosts" / self.host

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # pydantic passes them all by keyword
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, the running fleet's own file."""
        return init_settings, env_settings, _FleetFile(settings_cls, init_settings().get("dir"))


class _FleetFile(PydanticBaseSettingsSource):
    """The addresses of the embedded fleet whose state directory this is, as long as it runs."""

    def __init__(self, settings_cls: type[BaseSettings], directory: str | Path | None) -> None:
        super().__init__(settings_cls)
        self._directory = Path(directory or os.environ.get(f"{PREFIX}DIR", DEFAULT_DIR))

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        known = read_fleet_file(self._directory).get("settings", {})
        return known if isinstance(known, dict) else {}


def read_fleet_file(directory: Path) -> dict[str, Any]:
    """Return what the fleet in *directory* says of itself, ``{}`` where none runs."""
    try:
        known = json.loads((directory / FLEET_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of this process.

    Raises:
        InvalidSettings: a ``CELERIAC_`` name that doesn't exist, with the nearest that does; or a value that can't be.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known and not _DRIVER.fullmatch(name) and "_TEST_" not in name:
            # without the prefix, which makes every name look like every other
            near = difflib.get_close_matches(name.removeprefix(PREFIX), [*map(str.upper, Settings.model_fields)], n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise InvalidSettings(f"there is no setting {name}; {hint}")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = "; ".join(
            f"{PREFIX}{'_'.join(str(part) for part in fault['loc']).upper()}={_shown(fault['input'])}: {fault['msg']}"
            for fault in error.errors()
        )
        raise InvalidSettings(faults) from error
    except InvalidName as error:
        raise InvalidSettings(str(error)) from error


def _shown(value: object) -> str:
    return repr(shown(value) if isinstance(value, str) and "://" in value else value)
