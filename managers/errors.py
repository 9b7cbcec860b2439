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


class InvalidContext(ManagerError, ValueError):
    """Raised when a message carries a request context that isn't one."""


class InvalidArguments(ManagerError, ValueError):
    """Raised at the caller when an argument would not arrive as it was given."""


class NotAdopted(ManagerError, LookupError):
    """Raised when no Celery application, or not the one at hand, was given the managers by celeriac_app."""


class HostNotUp(ManagerError, LookupError):
    """Raised at the caller when a message is for a host that would not take it."""


class CallRefused(ManagerError, RuntimeError):
    """Raised at the caller when nobody could wait for the answer, or waiting could block a pool for ever."""


class CallTimeout(ManagerError, TimeoutError):
    """Raised at the caller when no answer came in time."""


class DeadlinePassed(ManagerError, TimeoutError):
    """Raised when a request's deadline is over before its work began."""


class RemoteTraceback(Exception):  # it is no error, but the cause of one
    """The traceback of an exception in the process where it was raised; its cause as the caller sees it."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class DatabaseError(ManagerError):
    """Raised when the database can't be used: no address, no answer, or no schema."""


def shown(value: object) -> str:
    """Return *value* for a message: short and plain, whatever a stranger sent."""
    try:
        text = ascii(value)
    except Exception as error:  # noqa: BLE001  # a repr is user code, and an int of 5000 digits refuses to be a text
        text = f"<{type(value).__name__}: {error}>"
    return text if len(text) <= 80 else f"{text[:77]}..."
