"""Follows docs/tutorial.md word for word, in an empty folder.

A block of code after "Save this as `name`:" is that file. In a console block a line that begins with "$ " is typed, and
the lines after it are what it must print, with "…" for what varies. A command that promises "Ctrl-C stops" goes on in
its terminal, further blocks are typed in a second one, and "^C" is pressed in the first.

The environment is the one that runs the tests: ``python3 -m venv`` is left out, and so is ``pip install``, which would
fetch what is installed here. With CELERIAC_TEST_TUTORIAL=install nothing is left out.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
SAVE = re.compile(r"[Ss]ave this as `([\w.]+)`:$")
INSTALLS = os.environ.get("CELERIAC_TEST_TUTORIAL") == "install"


class Step(NamedTuple):
    """A file to save, or what is typed and what it must print."""

    file: str
    text: str
    promised: str = ""


class Terminal:
    """A shell that is typed into; what it prints goes to a file."""

    def __init__(self, log: Path, home: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CELERIAC_")}
        environment |= {"HOME": str(home), "COLUMNS": "80", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
        self.log = log
        self.home = home
        with log.open("wb") as output:
            self.shell = subprocess.Popen(
                ["bash", "--norc", "--noprofile"], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                cwd=ROOT, env=environment, start_new_session=True,
            )  # fmt: skip
        self.number = 0

    def type(self, command: str) -> str:
        """Type *command* and return what it printed, once it has ended well."""
        self.number += 1
        begins, ends = f"<{self.number}", rf"{self.number}> (\d+)\n"
        self.send(f"echo '{begins}'; {command}\necho '{self.number}>' $?")
        found = self.wait_for(rf"^{begins}\n((?s:.*)){ends}", 300 if INSTALLS else 60)
        assert found[2] == "0", f"$ {command}\n{found[1]}"
        return found[1]

    def send(self, line: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{line}\n".encode())
        self.shell.stdin.flush()

    def wait_for(self, pattern: str, seconds: float) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.log.read_text(), re.MULTILINE)):
            assert time.monotonic() < deadline, f"not within {seconds} s: {pattern}\n{self.log.read_text()}"
            time.sleep(0.02)
        return found

    def end(self) -> None:
        if self.shell.poll() is None:
            os.killpg(self.shell.pid, signal.SIGTERM)
        assert self.shell.stdin is not None
        self.shell.stdin.close()
        self.shell.wait(60)


def steps() -> Iterator[Step]:
    """Yield what the page tells its reader to do, in its order."""
    for block in BLOCK.finditer(PAGE.read_text()):
        if block["language"] == "console":
            for part in re.split(r"^(?:\$ |(?=\^C))", block["text"], flags=re.MULTILINE)[1:]:
                typed, _, promised = part.partition("\n")
                yield Step("", typed, promised)
        else:
            if not (named := SAVE.search(block["before"])):
                pytest.fail(f"a block of {block['language']} that is no file: {block['text']}")
            yield Step(named[1], block["text"])


def pattern_of(promised: str) -> str:
    """Return a pattern for what was *promised*; spaces at the ends of lines and the length of a rule don't count."""
    lines = (re.sub("─+", "─+", re.escape(line.rstrip()).replace("…", ".*?")) for line in promised.splitlines())
    return "\n".join(f"{line} *" for line in lines)


@pytest.mark.fleet
@pytest.mark.timeout(600 if INSTALLS else 240)
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    first = Terminal(tmp_path / "first", tmp_path)
    second: Terminal | None = None
    terminals = [first]
    try:
        if not INSTALLS:
            first.type(f"PATH={Path(sys.executable).parent}:$PATH")
        for step in steps():
            if step.file:
                (tmp_path / "fleet" / step.file).write_text(step.text)
            elif step.text == "^C":
                os.killpg(first.shell.pid, signal.SIGINT)
                first.wait_for(pattern_of(step.promised), 60)
            elif "Ctrl-C stops" in step.promised:
                first.send(step.text)
                first.wait_for(pattern_of(step.promised), 60)
                terminals.append(second := Terminal(tmp_path / "second", tmp_path))
                if not INSTALLS:
                    second.type(f"PATH={Path(sys.executable).parent}:$PATH")
            elif INSTALLS or not re.match(r"python3 -m venv|pip install|\. \S*\.venv/bin/activate", step.text):
                printed = (second or first).type(step.text)
                assert re.fullmatch(pattern_of(step.promised), printed.rstrip("\n")), (
                    f"$ {step.text}\n{printed}\ninstead of\n{step.promised}"
                )
    finally:
        for terminal in reversed(terminals):
            terminal.end()


def test_the_tutorial_is_read_as_it_is_written() -> None:
    found = list(steps())

    assert [step.file for step in found if step.file] == ["scratch.py", "fleet.env", "ask.py", "test_scratch.py"]
    assert [step.promised for step in found if step.text == "^C"] == ["stopped\n"]
    assert sum(step.promised.count("\n") for step in found) > 15
