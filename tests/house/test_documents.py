"""The commands that the documents show are commands that exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator

import pytest

from ocrsmith.cli.main import HELP_LINES, load_command

from .source import REPOSITORY

DOCUMENTS = [path for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")) if path.is_file()]
README = REPOSITORY / "README.md"


def _command_lines(text: str) -> Iterator[list[str]]:
    """The words of each line in the fenced blocks; continued lines are joined, comments dropped."""
    for block in re.findall(r"^```(?:bash|sh|console|shell)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line.removeprefix("$ "), comments=True)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


def _commands(program: str) -> list[list[str]]:
    lines = [words for path in DOCUMENTS for words in _command_lines(path.read_text(encoding="utf-8"))]
    return [words[1:] for words in lines if words[0].rpartition("/")[2] == program]


@pytest.mark.parametrize("words", _commands("ocrsmith"), ids=" ".join)
def test_an_ocrsmith_command_in_a_document_exists(words: list[str]) -> None:
    known = {"--help", "--version", "--verbose", "--quiet", "-v", "-q"}
    if words and not words[0].startswith("-"):
        assert words[0] in HELP_LINES
        command = load_command(words[0])
        if inner := getattr(command, "commands", None):
            assert words[1] in inner
            command = inner[words[1]]
        known |= {name for item in command.params for name in (*item.opts, *item.secondary_opts)}
    used = {word.split("=")[0] for word in words if word.startswith("-") and not word[1:2].isdigit()}
    assert used <= known


@pytest.mark.parametrize("words", _commands("make"), ids=" ".join)
def test_a_make_target_in_a_document_exists(words: list[str]) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = [word for word in words if "=" not in word]
    assert targets
    assert all(re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) for target in targets)


def test_an_extra_in_a_document_exists() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in DOCUMENTS:
        for names in re.findall(r"(?:ocrsmith|\.)\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= set(extras), path


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text()
    assert ["make", "test"] in list(_command_lines(README.read_text(encoding="utf-8")))
    assert re.search(r"^make test$", script, re.MULTILINE)
    assert re.search(r"^make lint$", script, re.MULTILINE)


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
