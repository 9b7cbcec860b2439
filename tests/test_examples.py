"""Everything in examples/ works, and every block of code in docs/testing.md is out of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("test_*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_passes_as_a_project_of_its_own(path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-c", os.devnull, "-W", "error"]
    options = ["-p", "no:cacheprovider", "-p", "no:valkey", "--rootdir", str(path.parent), str(path)]

    run = subprocess.run(
        [*command, *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_block_of_code_in_the_testing_guide_is_out_of_the_examples() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "examples").rglob("*.py"))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), flags=re.DOTALL)

    assert len(blocks) >= 3
    for block in blocks:
        assert block in code
