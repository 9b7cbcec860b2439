"""Modules that tests load by dotted path."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make an importable module with these attributes; return its name."""

    def make(**attributes: Any) -> str:
        name = f"made_for_a_test_{len(sys.modules)}"
        made = ModuleType(name)
        for attribute, value in attributes.items():
            setattr(made, attribute, value)
        monkeypatch.setitem(sys.modules, name, made)
        return name

    return make
