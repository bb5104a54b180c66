"""The command line itself: help, version, wrong words, exit codes, and where errors go."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import typer

import ocrsmith
from ocrsmith.cli import main as cli
from ocrsmith.cli.main import main
from ocrsmith.errors import DataError, OcrsmithError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Puts a function in the place of the command `doctor`."""

    def install(action: Callable[[], None]) -> None:
        def doctor(as_json: bool = typer.Option(False, "--json")) -> None:
            """A command for this test, part of ocrsmith[train].

            A second paragraph whose
            lines are short.
            """
            action()

        module = ModuleType("ocrsmith.cli.doctor")
        vars(module)["doctor"] = doctor
        monkeypatch.setitem(sys.modules, "ocrsmith.cli.doctor", module)

    return install


def _raise(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, line in cli.HELP_LINES.items():
        assert f"{name} {line}" in text


def test_no_words_at_all_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: ocrsmith" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ocrsmith {ocrsmith.__version__}\n"


@pytest.mark.parametrize(
    ("words", "problem", "place"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?", "ocrsmith"),
        (["--vrsion"], "No such option: --vrsion. Did you mean --version?", "ocrsmith"),
        (["doctor", "--jsn"], "No such option: --jsn. Did you mean --json?", "ocrsmith doctor"),
        (["doctor", "now"], "Got unexpected extra argument(s) (now)", "ocrsmith doctor"),
        (["zzz"], "No such command 'zzz'.", "ocrsmith"),
        (["data"], "Missing command.", "ocrsmith data"),
    ],
)
def test_a_wrong_word_is_answered_with_what_was_meant(
    words: list[str], problem: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"Error: {problem}", f"  where: {place}", f"  mend:  See `{place} --help`."]


def test_a_user_error_is_problem_place_and_mend(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    long = "/a/very/long/path/" + "x" * 200 + "/[bold]labels.txt"
    command(_raise(DataError("The file has no lines.", place=f"{long}:1", mend="Add lines.")))
    assert main(["doctor"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"Error: The file has no lines.\n  where: {long}:1\n  mend:  Add lines.\n"


def test_with_json_the_error_is_one_object_on_stdout(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(_raise(DataError("无效的文件", place="labels.txt:3", mend="Mend it.")))
    assert main(["doctor", "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {
            "type": "DataError",
            "problem": "无效的文件",
            "where": "labels.txt:3",
            "mend": "Mend it.",
            "exit_code": 2,
        }
    }
    assert "Error: 无效的文件" in err


def test_a_usage_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--nope"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["problem"] == "No such option: --nope"


def test_verbose_shows_where_a_user_error_comes_from(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(_raise(DataError("The file has no lines.")))
    assert main(["doctor", "-v"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main(["doctor"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_subclass_may_choose_its_exit_code(command: Callable[..., None]) -> None:
    class GateError(OcrsmithError):
        exit_code = 1

    command(_raise(GateError("Worse than before.")))
    assert main(["doctor"]) == 1


@pytest.mark.parametrize("code", [0, 1, 2])
def test_typer_exit_gives_its_code(code: int, command: Callable[..., None]) -> None:
    command(_raise(typer.Exit(code)))
    assert main(["doctor"]) == code


def test_an_interrupt_exits_with_130(command: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    command(_raise(KeyboardInterrupt()))
    assert main(["doctor", "--json"]) == 130
    out, err = capsys.readouterr()
    assert err == "Interrupted.\n"
    assert json.loads(out)["error"]["exit_code"] == 130


def test_a_bug_is_called_a_bug_and_its_traceback_kept(
    command: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command(_raise(ZeroDivisionError("division by zero")))
    assert main(["doctor"]) == 70
    err = capsys.readouterr().err
    assert err.startswith(
        "Error: This is a bug in ocrsmith, not a mistake of yours: ZeroDivisionError: division"
    )
    assert "Traceback" not in err
    (file,) = tmp_path.iterdir()
    assert str(file) in err
    kept = file.read_text()
    assert "Traceback" in kept
    assert "ocrsmith doctor\n" in kept


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left", "out/x"), "The disk is full.\n  where: out/x\n"),
        (PermissionError(errno.EACCES, "denied", "out/x"), "No permission.\n  where: out/x\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "in/x"), "No such file.\n  where: in/x\n"),
        (MemoryError(), "Memory ran out: no more to be had\n"),
    ],
)
def test_the_system_refusing_is_no_bug(
    error: Exception, message: str, command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(_raise(error))
    assert main(["doctor"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"Error: {message}")
    assert "mend:" in err


def test_a_docstring_is_text_without_markup_and_fills_the_width(
    command: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(_raise(AssertionError()))
    assert main(["doctor", "--help"]) == 0
    out = capsys.readouterr().out
    assert "ocrsmith[train]" in out
    assert "A second paragraph whose lines are short." in out


@pytest.mark.parametrize(
    ("words", "level"),
    [([], logging.WARNING), (["-v"], logging.INFO), (["-vv"], logging.DEBUG), (["--quiet"], logging.ERROR)],
)
def test_verbosity_may_stand_before_and_after_the_command(
    words: list[str], level: int, command: Callable[..., None]
) -> None:
    seen = []
    command(lambda: seen.append(logging.getLogger("ocrsmith").level))
    assert main([*words, "doctor"]) == 0
    assert main(["doctor", *words]) == 0
    assert seen == [level, level]


def test_a_terminal_without_the_characters_does_not_end_a_run() -> None:
    words = [sys.executable, "-m", "ocrsmith.cli.main", "缺"]
    env = {"PYTHONIOENCODING": "ascii", "PATH": ""}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert r"No such command '\u7f3a'." in done.stderr
