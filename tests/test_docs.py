"""What the docs say of names that the code knows."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

from workers.cli import main
from workers.config import Settings

ROOT = Path(__file__).parents[1]


def test_every_setting_is_documented_with_its_true_default_and_no_other_is() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| `CELERIAC_([A-Z_]+)` \| (.*?) \|", page, re.MULTILINE))

    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if field.default not in {"", ()} and field.default_factory is None:
            shown = field.default[0] if isinstance(field.default, tuple) else field.default
            shown = f"{shown:g}" if isinstance(shown, float) else str(shown)
            assert rows[name.upper()] == f"`{shown}`"


def test_every_command_of_the_readme_is_one() -> None:
    page = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"^\$ make (\w+)", page, re.MULTILINE)) <= targets
    assert set(re.findall(r"^\$ celeriac (\w+)", page, re.MULTILINE)) <= set(main.commands)


def test_the_compose_files_settings_exist() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    named = {name for service in services.values() for name in service.get("environment", {})}

    assert {name for name in named if name.startswith("CELERIAC_")} <= {
        f"CELERIAC_{name.upper()}" for name in Settings.model_fields
    }


def test_the_reference_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.stdout + done.stderr == "docs/reference.md is current\n"
