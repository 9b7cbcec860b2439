"""What can go wrong around a manager."""


class ManagerError(Exception):
    """Base of every error that this project raises on purpose."""


class InvalidName(ManagerError, ValueError):
    """Raised when a host or service name can't be a queue's name."""


class DriverNotFound(ManagerError, LookupError):
    """Raised when a manager's driver, or a database driver, can't be loaded from its dotted path."""


class InvalidReport(ManagerError, ValueError):
    """Raised when a report breaks a limit or isn't one."""


class InvalidLabels(ManagerError, ValueError):
    """Raised when the operator's labels can't be read."""


class DatabaseError(ManagerError):
    """Raised when the database can't be used: no address, no answer, or no schema."""


def shown(value: object) -> str:
    """Return *value* for a message: short and plain, whatever a stranger sent."""
    try:
        text = ascii(value)
    except Exception as error:  # noqa: BLE001  # a repr is user code, and an int of 5000 digits refuses to be a text
        text = f"<{type(value).__name__}: {error}>"
    return text if len(text) <= 80 else f"{text[:77]}..."
