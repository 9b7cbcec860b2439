"""The version that reports and the registry carry."""

import importlib.metadata


def version() -> str:
    """Return the installed version, or "0+source" where the project runs without being installed."""
    try:
        return importlib.metadata.version("celeriac")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"
