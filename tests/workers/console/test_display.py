"""What people see, and what a terminal never gets to see."""

import io

import pytest
from rich.console import Console, RenderableType

from scheduler.hosts import Host, Identity, Readiness
from workers.console.checks import Check
from workers.console.display import (
    HostsView,
    ago,
    capabilities_view,
    checks_view,
    dossier_view,
    number,
    plain,
    state_text,
    write,
)
from workers.console.dossier import dossier

IDENTITY = Identity("i", "box:12ab:1", 4711, 1.0, "0.1.0", 10.0, 60.0, 7, 1_800_000_000.0)


def host(name: str, *, state: str = "up", reasons: tuple[str, ...] = (), **capabilities: object) -> Host:
    total = {key: value for key, value in capabilities.items() if isinstance(value, int | float)}
    return Host("host", name, state, reasons, 2.0, 3.0, capabilities, IDENTITY, 1, {}, total, dict(total))  # type: ignore[arg-type]


def drawn(view: RenderableType, *, width: int = 120, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        highlight=False,
        color_system="standard" if colour else None,
    )
    console.print(view)
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return written


def test_a_wide_terminal_gets_a_line_for_each_host() -> None:
    lines = drawn(HostsView([host("a", slots=4), host("b", slots=2)])).splitlines()

    assert lines[0].split() == ["service", "host", "state", "seen", "slots"]
    assert lines[2].split() == ["host", "a", "up", "2.0", "s", "4/4"]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80])
def test_a_narrow_terminal_loses_nothing(width: int) -> None:
    view = HostsView([host("rack1-07", state="stale", reasons=("presence 35.0 s old",), slots=4, memory_mb=15921)])

    written = drawn(view, width=width)

    assert max(len(line.rstrip()) for line in written.splitlines()) <= width
    joined = written.replace("\n", "").replace(" ", "")
    for part in ("rack1-07", "stale", "4/4", "15921/15921", "presence35.0sold"):
        assert part in joined


def test_reasons_have_a_column_only_where_there_are_any() -> None:
    assert "why" not in drawn(HostsView([host("a")]))
    assert "why" in drawn(HostsView([host("a", state="stale", reasons=("silent",))]))


@pytest.mark.parametrize("state", ["up", "stale", "disabled", "draining", "stopped", "lost", "ok", "warning", "failed"])
def test_every_state_has_a_colour_on_a_terminal_and_none_elsewhere(state: str) -> None:
    assert "\x1b[" in drawn(state_text(state), colour=True)
    assert drawn(state_text(state)) == f"{state}\n"


def test_a_pipe_gets_each_row_on_one_line_without_padding(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "because " * 50

    write(HostsView([host("a"), host("b", state="stale", reasons=(reason,))]))

    written = capsys.readouterr().out.splitlines()
    assert len(written) == 4
    assert reason.strip() in written[3]
    assert not [line for line in written if line != line.rstrip()]


def test_what_a_host_wrote_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2Jgone [red]markup[/red] \x07\r\n"
    row = host("a", state="disabled", reasons=(evil,), label=evil, many=[evil, True, 2.50])
    entries = dossier([row], [], Readiness(ready=True))

    for view in (
        HostsView([row]),
        capabilities_view({f"host.{evil}": (evil, evil)}),
        dossier_view(entries),
        checks_view([Check("name", "ok", evil, evil)]),
    ):
        for width in (40, 200):
            written = drawn(view, width=width)

            assert not {"\x1b", "\x07", "\r"} & set(written)
            assert "[red]" in written.replace("\n", "")


def test_plain_leaves_ordinary_text_of_any_language_alone() -> None:
    assert plain("Lüfter κ 風") == "Lüfter κ 風"
    assert plain("a\x1bb\u202ec") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"


@pytest.mark.parametrize(
    ("value", "text"), [(8, "8"), (8.0, "8"), (1.5, "1.5"), (0.1234, "0.123"), (15921123, "15921123"), (0, "0")]
)
def test_numbers_are_as_short_as_they_are_exact(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "never"), (2.04, "2.0 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 d")]
)
def test_ages_have_one_unit(seconds: float | None, text: str) -> None:
    assert ago(seconds) == text


def test_advice_stands_below_what_was_found() -> None:
    lines = drawn(checks_view([Check("beat", "failed", "no beat ticks", "start one"), Check("clock", "ok", "fine")]))

    assert [line.split() for line in lines.splitlines()] == [
        ["failed", "beat", "no", "beat", "ticks"], ["→", "start", "one"], ["ok", "clock", "fine"],
    ]  # fmt: skip


def test_a_host_without_report_is_shown_as_one() -> None:
    row = Host("host", "a", "up", (), 2.0, None, {}, IDENTITY)

    assert "none yet" in drawn(dossier_view(dossier([row], [], Readiness(ready=True))))
