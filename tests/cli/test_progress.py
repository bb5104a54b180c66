"""Progress where there is no terminal: a line now and then, on stderr."""

from __future__ import annotations

import pytest

from ocrsmith.cli import output
from ocrsmith.cli.progress import Bar, BuildBar, CountBar


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bar, "SECONDS_BETWEEN_LINES", 0)
    output.configure()


def test_a_build_tells_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with BuildBar() as bar:
        bar("read", 1, None)
        bar("read", 128, None)
        bar("write", 20, 20)
    said = capsys.readouterr()
    assert said.err.splitlines() == ["Reading and checking: 128", "Writing: 20 of 20"]
    assert said.out == ""


def test_a_count_tells_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with CountBar("samples", "Comparing", "compared") as bar:
        bar(1200, 5000)
    assert capsys.readouterr().err == "compared 1,200 of 5,000 samples\n"


def test_lines_are_far_between(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bar, "SECONDS_BETWEEN_LINES", 30)
    with BuildBar() as bar:
        for done in range(0, 640, 64):
            bar("read", done, 640)
    assert capsys.readouterr().err == ""
