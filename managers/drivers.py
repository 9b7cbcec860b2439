"""Finds a manager's driver, and the module of database functions, by dotted path."""

import difflib
import importlib
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from managers.errors import DriverNotFound, shown


def driver_setting(service: str) -> str:
    """Return the name of the setting that chooses *service*'s driver."""
    return f"CELERIAC_{service.upper().replace('-', '_')}_DRIVER"


def load_driver(service: str, choice: Any, known: Mapping[str, str]) -> Any:
    """Return the driver of *service*, made with no arguments where *choice* is a class or names one.

    *choice* is an instance, a class, an alias out of *known*, a dotted path ``package.module:Class``, or None for what
    the setting ``CELERIAC_<SERVICE>_DRIVER`` says, which falls back to the alias "default"; a service that knows no
    default has no driver (None).

    Raises:
        DriverNotFound: the path leads nowhere; the message names the path, the setting and the known drivers.
        Exception: whatever the driver's own constructor raised.
    """
    setting = driver_setting(service)
    if choice is None:
        choice = os.environ.get(setting) or known.get("default")
    if not isinstance(choice, str):
        return choice() if isinstance(choice, type) else choice
    try:
        make = _maker(known.get(choice, choice))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        hint = difflib.get_close_matches(choice, known, n=1)
        raise DriverNotFound(
            f"no driver {choice!r} for service {service!r}: {error}. Set {setting} to package.module:Class"
            f" or one of {', '.join(sorted(known)) or '(no known drivers)'}"
            + (f"; did you mean {hint[0]!r}?" if hint else "")
        ) from error
    return make()


def load_db_driver(path: str) -> ModuleType:
    """Return the module of database functions named by *path*, else raise DriverNotFound."""
    try:
        return importlib.import_module(path)
    except (ImportError, TypeError, ValueError) as error:
        raise DriverNotFound(
            f"no database driver {path!r}: {error}. Set CELERIAC_DB_DRIVER to a module of functions such as"
            " managers.db.api"
        ) from error


def load_class(path: str, setting: str) -> type:
    """Return the class at ``package.module:Class``, else raise DriverNotFound that names *setting*."""
    try:
        found = _attribute(path)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise DriverNotFound(f"{setting} names {path!r}, which can't be loaded: {error}") from error
    if not isinstance(found, type):
        raise DriverNotFound(f"{setting} names {path!r}, which is no class but {found!r}")
    return found


def load_function(path: str, setting: str) -> Callable[..., Any]:
    """Return what can be called at ``package.module:function``, else raise DriverNotFound that names *setting*."""
    try:
        return _maker(path)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise DriverNotFound(f"{setting} names {path!r}, which can't be loaded: {error}") from error


def _maker(path: str) -> Callable[[], Any]:
    make: Callable[[], Any] = _attribute(path)
    if not callable(make):
        raise TypeError(f"it is {shown(make)}, neither a class nor a function")
    return make


def _attribute(path: str) -> Any:
    module, separator, name = path.partition(":")
    if not (module and separator and name):
        raise ValueError(f"{path!r} is not of the form package.module:Class")
    return getattr(importlib.import_module(module), name)
