"""Runs a command as its user does, and reads what it said."""

import json

from click.testing import CliRunner, Result

from workers.cli import main
from workers.console.checks import Check

#: The doctor's checks, in their order.
NAMES = [
    "settings",
    "broker",
    "table",
    "database",
    "scheduler",
    "beat",
    "hosts",
    "placement",
    "clock",
    "versions",
    "counters",
]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("celeriac: ")
    return result.stderr


def doctor(*options: str) -> Result:
    result = run("doctor", *options)
    assert "Traceback" not in result.output
    return result


def examined() -> dict[str, Check]:
    result = doctor("--json")
    checks = {values["name"]: Check(**values) for values in json.loads(result.stdout)}
    assert list(checks) == NAMES
    assert result.exit_code == int(any(check.status == "failed" for check in checks.values()))
    return checks
