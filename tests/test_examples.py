"""Everything in examples/ works, and every block of Python in the docs is out of it."""

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("test_*.py"))
#: Pages whose code is tested otherwise: test_tutorial.py follows one, test_requirement_docs.py reads one, one is
#: generated.
OTHERS = {"tutorial.md", "requirements.md", "reference.md"}
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name not in OTHERS)


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
        timeout=200,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert list(tmp_path.iterdir()) == []


def lines_of(code: str) -> str:
    """Return *code* without its blank lines, of which the formatter wants more where a method stands by itself."""
    return "\n".join(line for line in code.splitlines() if line.strip())


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_code_in_the_docs_is_out_of_the_examples(page: Path) -> None:
    code = "\n".join(lines_of(path.read_text()) for path in (ROOT / "examples").rglob("*.py"))

    for block in map(lines_of, python_blocks(page)):
        assert block in code or textwrap.indent(block, "    ") in code, block


def test_the_pages_that_show_code_do() -> None:
    assert {page.stem for page in PAGES if python_blocks(page)} == {
        "adopting", "calling", "contexts", "managers", "periodic-tasks", "placement", "placing-tasks", "testing",
    }  # fmt: skip


def test_the_tasks_of_the_readme_are_the_examples() -> None:
    tasks, _ = python_blocks(ROOT / "README.md")
    code = lines_of((ROOT / "examples" / "render_farm.py").read_text())

    assert all(lines_of(task) in code for task in tasks.split("\n\n\n"))


def test_the_manager_of_the_readme_is_the_example_less_its_types() -> None:
    _, shown = python_blocks(ROOT / "README.md")
    (real,) = (
        node
        for node in ast.parse((ROOT / "examples" / "volume_manager.py").read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "VolumeManager"
    )

    assert ast.unparse(ast.parse(shown)) == ast.unparse(bare(real))


def bare(manager: ast.ClassDef) -> ast.ClassDef:
    """Strip *manager* of annotations, its docstring and its table of drivers."""
    manager.body = [node for node in manager.body if isinstance(node, ast.FunctionDef)]
    for method in manager.body:
        assert isinstance(method, ast.FunctionDef)
        method.returns = None
        for argument in method.args.args:
            argument.annotation = None
    return manager
