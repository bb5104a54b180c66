"""The Makefile and the pinned versions: what a stranger meets first."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from .source import REPOSITORY

PINS = dict(
    line.split("==")
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)


def _make(folder: Path, tools: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Runs make in `folder`, where only `tools` (name → shell script) and a shell can be found."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("sh", "touch", "mkdir", "cat"):
        (programs / name).symlink_to(shutil.which(name) or name)
    for name, script in tools.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, folder)
    make = shutil.which("make")
    assert make
    return subprocess.run(
        [make, *words], cwd=folder, env={"PATH": str(programs), "LC_ALL": "C"}, capture_output=True, text=True
    )


FAKE_PYTHON = """
case "$1" in
  -c) exit {code} ;;
  --version) echo Python 3.12.0 ;;
  -m) mkdir -p .venv/bin
      printf '#!/bin/sh\\necho "$@" >> calls.txt\\n' > .venv/bin/python; cat .venv/bin/python > .venv/bin/pytest
      cat .venv/bin/python > .venv/bin/ocrsmith; {chmod} +x .venv/bin/* ;;
esac
"""
GOOD_PYTHON = FAKE_PYTHON.format(code=0, chmod=shutil.which("chmod"))
OLD_PYTHON = FAKE_PYTHON.format(code=1, chmod=shutil.which("chmod"))

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@needs_make
@pytest.mark.parametrize("tools", [{}, {"python3": OLD_PYTHON}], ids=["no Python", "an old Python"])
def test_make_without_a_fitting_python_says_what_to_do(tmp_path: Path, tools: dict[str, str]) -> None:
    done = _make(tmp_path, tools, "test")
    assert done.returncode != 0
    assert "Error: no Python 3.11 or newer with its venv module was found." in done.stderr
    assert "make PYTHON=/path/to/python3.12 test" in done.stderr
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_make_passes_over_a_python_that_does_not_fit(tmp_path: Path) -> None:
    done = _make(tmp_path, {"python3.13": OLD_PYTHON, "python3": GOOD_PYTHON}, "quickstart")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    assert calls == [
        "-m pip install -qq --disable-pip-version-check -c constraints.txt -e .[train]",
        "quickstart -o quickstart --overwrite",
    ]


@needs_make
def test_make_installs_once_and_dev_includes_train(tmp_path: Path) -> None:
    done = _make(tmp_path, {"python3": GOOD_PYTHON}, "test", "quickstart")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls.txt").read_text().count("pip install") == 1


def test_constraints_are_exact_and_portable() -> None:
    assert PINS["torch"] == "2.13.0"
    for name, version in PINS.items():
        assert re.fullmatch(r"[a-z0-9.-]+", name)
        assert re.fullmatch(r"\d+(\.\d+)*(\.post\d+)?", version), f"{name}=={version}"


def test_constraints_cover_every_direct_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    names = {re.split(r"[\[<>=!~; ]", line)[0].lower() for line in lines}
    # CUDA builds of torch ask for one triton each, so a version of our own would keep them out; vLLM asks for
    # versions of its own of much else, and is tested in an environment of its own.
    assert names - {"ocrsmith", "triton", "vllm"} <= set(PINS)


def test_the_licence_is_whole() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
