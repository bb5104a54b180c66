"""Every command: the table of help lines agrees with the files, and its help works."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ocrsmith.cli import main as cli

NOT_COMMANDS = {"__init__", "main", "options", "output", "progress", "tables"}
FOLDER = Path(cli.__file__).parent
FILES = {path.stem for path in FOLDER.glob("*.py")} | {
    path.parent.name for path in FOLDER.glob("*/__init__.py")
}
FILES -= NOT_COMMANDS


def test_each_file_is_a_command_and_each_command_a_file() -> None:
    assert set(cli.HELP_LINES) == {name for name in FILES if not name.startswith("_")}


@pytest.mark.parametrize("name", sorted(FILES & set(cli.HELP_LINES)))
def test_the_help_line_is_the_docstrings_first_paragraph(name: str) -> None:
    text = cli.load_command(name).help or ""
    first = inspect.cleandoc(text).split("\n\n")[0]
    assert " ".join(first.split()) == cli.HELP_LINES[name]


@pytest.mark.parametrize("name", sorted(FILES & set(cli.HELP_LINES)))
def test_the_help_of_every_command_works(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = [[name], *([name, inner] for inner in getattr(cli.load_command(name), "commands", {}))]
    for words in names:
        assert cli.main([*words, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"Usage: ocrsmith {' '.join(words)}" in out
        assert not re.search(r"\bArgs:|\bReturns:|\bRaises:", out), "the docstring's sections are not for users"


@pytest.mark.parametrize("name", sorted(FILES & set(cli.HELP_LINES)))
def test_every_command_can_print_json_and_explains_its_options(name: str) -> None:
    command = cli.load_command(name)
    for leaf in getattr(command, "commands", {"": command}).values():
        assert "--json" in {option for item in leaf.params for option in item.opts}
        unexplained = [item.name for item in leaf.params if not getattr(item, "help", None)]
        assert not unexplained
