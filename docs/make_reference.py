"""Writes docs/reference.md from docstrings, settings and commands; ``--check`` only says whether it is current."""

import inspect
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import managers
import scheduler
import workers
import workers.operations
import workers.testing
from workers.cli import main as celeriac
from workers.config import PREFIX, Settings

PAGE = Path(__file__).parent / "reference.md"

#: What of the scheduler is for those who place tasks, or write rules for that; the rest is its own.
SCHEDULER = ("Candidate", "Claim", "Claims", "No", "Request", "Requirement", "Snapshot")
#: Classes of which only some members are meant for others.
MEMBERS = {
    "Candidate": ("free", "has_free"),
    "Claim": ("claims",),
    "Claims": ("all", "of"),
    "Request": (),
    "ScheduledTask": ("apply_async",),
    "Snapshot": ("candidates",),
}

HEAD = """# Reference

Made from the docstrings by `python docs/make_reference.py`. What isn't here is no part of the public interface.
"""


def page() -> str:
    """Return the whole page."""
    parts = [
        HEAD,
        *module(managers, "What a host does: managers, and what they are called with."),
        *module(
            scheduler,
            "Where a task runs; see [Placement](placement.md) and [Requirements](requirements.md).",
            only=SCHEDULER,
        ),
        *module(workers, "The processes: adopting an application, settings."),
        *module(workers.operations, "Operating placement by scripts; see [Operating placement](howto/operating.md)."),
        *module(workers.testing, "The kit for your own tests; see [Testing your managers](testing.md)."),
        "## Settings\n",
        "Environment variables; [Settings](settings.md) says more.\n",
        "\n".join(settings()) + "\n",
        "## Commands\n",
        *commands(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def module(source: ModuleType, about: str, *, only: Collection[str] = ()) -> Iterator[str]:
    """Yield the public names of *source*: first what does something, *only* some of it perhaps, then the errors."""
    found = [(name, getattr(source, name)) for name in source.__all__]
    errors = [(name, thing) for name, thing in found if inspect.isclass(thing) and issubclass(thing, BaseException)]
    yield f"## {source.__name__}\n"
    yield f"{about}\n"
    for name, thing in found:
        if (name, thing) not in errors and (not only or name in only):
            yield from entry(name, thing)
    if errors:
        yield f"### Errors of {source.__name__}\n"
        yield "| error | is a | |\n|---|---|---|"
        for name, error in errors:
            bases = ", ".join(f"`{base.__name__}`" for base in error.__bases__)
            yield f"| `{name}` | {bases} | {first_paragraph(error)} |"
        yield ""


def entry(name: str, thing: Any) -> Iterator[str]:
    """Yield a class with its methods, a function, or what else a name may mean."""
    yield f"### {name}\n"
    if inspect.isclass(thing):
        if not issubclass(thing, Settings):  # which has a table of its own
            yield code(wrapped(f"class {name}{signature(thing)}"))
        yield prose(thing)
        yield from members(thing)
    elif inspect.isfunction(unwrapped(thing)):
        yield code(wrapped(f"{name}{signature(unwrapped(thing))}"))
        yield prose(unwrapped(thing))
    else:
        yield code(f"{name} = {short(str(thing))}")


def members(owner: type) -> Iterator[str]:
    """Yield the public methods and properties that *owner* itself defines."""
    shown = {field.name for field in fields(owner)} if is_dataclass(owner) else set()
    for name, member in vars(owner).items():
        member = getattr(member, "__func__", member)  # noqa: PLW2901  # a classmethod's own function
        # what begins with settings_ is pydantic's
        if name.startswith(("_", "settings_")) or name in shown or name not in MEMBERS.get(owner.__name__, (name,)):
            continue
        if isinstance(member, property):
            yield f"**`{name}`**\n"
            yield prose(member)
        elif inspect.isfunction(member):
            yield f"**`{name}{signature(member, of_instance=True)}`**\n"
            yield prose(member)


def signature(thing: Any, *, of_instance: bool = False) -> str:
    """Return the signature of *thing*, without modules' names and without ``self`` where it is *of_instance*."""
    found = inspect.signature(thing)
    parameters = [*found.parameters.values()]
    if of_instance:
        parameters = [parameter for parameter in parameters if parameter.name not in {"self", "cls"}]
    if is_dataclass(thing):  # what a factory makes is no default worth showing
        made = {field.name for field in fields(thing) if field.default_factory is not MISSING}
        parameters = [
            parameter.replace(default=...) if parameter.name in made else parameter
            for parameter in parameters
            if not parameter.name.startswith("_")
        ]
    returns = inspect.Signature.empty if inspect.isclass(thing) else found.return_annotation
    text = short(str(found.replace(parameters=parameters, return_annotation=returns)))
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("Ellipsis", "...")


def wrapped(text: str) -> str:
    """Return a signature that is too long for one line with a line for each parameter."""
    if len(text) <= 100:
        return text
    head, _, rest = text.partition("(")
    inside, _, tail = rest.rpartition(")")
    parts = re.split(r", (?=\*|/|\w+:)", inside)
    return "\n".join([f"{head}(", *(f"    {part}," for part in parts), f"){tail}"])


def short(text: str) -> str:
    """Return *text* without modules' names and marks of type variables."""
    return re.sub(r"(?<![\w.])(?:[a-z_]\w*\.)+(?=[A-Za-z])|~", "", text)


def prose(thing: Any) -> str:
    """Return the docstring of *thing* as Markdown: its sections as lists, literal blocks as code."""
    paragraphs = []
    for paragraph in re.split(r"\n\n(?=\S)", inspect.getdoc(thing) or ""):
        title, _, rest = paragraph.partition("\n")
        if title in {"Args:", "Raises:"}:
            items = re.split(r"\n(?=\S)", inspect.cleandoc(f"\n{rest}"))
            listed = (re.sub(r"\s+", " ", item).replace("``", "`").split(": ", 1) for item in items)
            lines = [f"* `{name}`: {text[0]}" if text else f"* {name}" for name, *text in listed]
            paragraphs.append(f"{title[:-1]}:\n\n" + "\n".join(lines))
        else:
            text, _, literal = paragraph.partition("::\n\n")
            text = text.replace("``", "`")
            paragraphs.append(f"{text}:\n\n{code(inspect.cleandoc(literal))}".rstrip() if literal else text)
    return "\n\n".join(paragraphs) + "\n" if paragraphs else ""


def first_paragraph(thing: Any) -> str:
    """Return the docstring's first paragraph as one line."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


def code(text: str, language: str = "python") -> str:
    """Return *text* as a block."""
    return f"```{language}\n{text}\n```\n"


def unwrapped(thing: Any) -> Any:
    """Return the function behind a pytest fixture, or *thing* itself."""
    return getattr(thing, "_get_wrapped_function", lambda: thing)()


def settings() -> Iterator[str]:
    """Yield the rows of the settings' table."""
    yield "| variable | default | |\n|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default in {"", ()} else field.default
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        yield f"| `{PREFIX}{name.upper()}` | {f'`{shown}`' if shown else ''} | {field.description} |"


def commands() -> Iterator[str]:
    """Yield each command with its options."""
    for name, command in sorted(celeriac.commands.items()):
        context = click.Context(command, info_name=name, parent=click.Context(celeriac, info_name="celeriac"))
        yield f"### celeriac {name}\n"
        yield code(" ".join([context.command_path, *command.collect_usage_pieces(context)]), "text")
        yield f"{inspect.cleandoc(command.help or '')}\n"
        records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
        if records:
            yield "| option | |\n|---|---|"
            for option, text in records:
                yield f"| `{option}` | {re.sub(' +', ' ', text)} |"
            yield ""


def main() -> int:
    """Write the page; with ``--check``, say whether it was current."""
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    is_current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
    print("docs/reference.md is current" if is_current else "docs/reference.md is old: python docs/make_reference.py")
    return 0 if is_current else 1


if __name__ == "__main__":
    sys.exit(main())
