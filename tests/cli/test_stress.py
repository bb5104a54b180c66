"""`ocrsmith stress`: what it prints and writes, its rules and exit codes, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ocrsmith.cli.main import main

from ..serving.stress.server import BadServer, Reply, page_of

Said = pytest.CaptureFixture[str]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "pages").mkdir()
    for number in range(3):
        Image.new("L", (20, 16), 40 * number).save(tmp_path / "pages" / f"{number}.png")
    (tmp_path / "pages" / "notes.md").write_text("# about")
    return tmp_path / "pages"


@pytest.fixture
def server() -> Iterator[BadServer]:
    server = BadServer()
    yield server
    server.close()


def stress(server: BadServer, images: Path, *words: str) -> int:
    return main(["stress", server.url, "--images", str(images), "-n", "30", "-c", "3", "--warmup", "0", *words])


def test_the_figures_are_printed(server: BadServer, images: Path, capsys: Said) -> None:
    server.behave = lambda number, body: Reply(f"page {page_of(body)}")
    assert stress(server, images) == 0
    said = capsys.readouterr()
    assert "30 of 30 requests answered in" in said.out
    assert f"by small at {server.url}/v1: 3 images, 3 at a time." in said.out
    for line in ("latency s", "pages a minute", "finish reasons   stop 30", "errors           none"):
        assert line in said.out
    assert "answers          each page always alike" in said.out
    assert "memory           not known" in said.out
    assert "first text" not in said.out
    assert "1 file not sent:\n  notes.md: The file holds text" in said.err
    texts = {
        part["text"] for body in server.bodies for part in body["messages"][0]["content"] if "text" in part
    }
    assert texts == {"Free OCR."}


def test_the_same_figures_are_written_and_printed_as_json(
    server: BadServer, images: Path, tmp_path: Path, capsys: Said
) -> None:
    out = tmp_path / "new" / "stress.json"
    assert stress(server, images, "--json", "-o", str(out), "--stream", "--prompt", "markdown") == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(out.read_text())
    assert (result["requests"], result["answered"], result["failed"]) == (30, 30, [])
    assert result["first_text"]["p50"] <= result["latency"]["p50"]
    assert result["images"] == {
        "sent": 3,
        "left_out": [{"file": "notes.md", "reason": result["images"]["left_out"][0]["reason"]}],
        "beyond": 0,
    }
    assert result["settings"]["prompt"] == "<image>\n<|grounding|>Convert the document to markdown."
    assert str(tmp_path) not in out.read_text()


def test_a_failed_request_makes_the_exit_code_1(server: BadServer, images: Path, capsys: Said) -> None:
    server.behave = lambda number, body: Reply(status=500 if number == 10 else 200)
    assert stress(server, images) == 1
    said = capsys.readouterr()
    assert "errors           1: HTTP 500 1" in said.out
    assert "Fail: errors > 0" in said.out
    assert "The first HTTP 500: HTTP 500:" in said.err


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (["errors > 1"], 0),
        (["errors > 0 or p99 > 60"], 1),
        (["p99 > 60", "error_share > 2%"], 1),
        (["rejected > 0"], 1),
        (["differing > 0", "pages_per_minute < 0.1", "loops > 0"], 0),
    ],
)
def test_rules_say_what_a_failure_is(server: BadServer, images: Path, rules: list[str], code: int) -> None:
    replies = {10: Reply(status=500), 20: Reply(status=429, headers={"Retry-After": "0.01"})}
    server.behave = lambda number, body: replies.get(number, Reply())
    assert stress(server, images, *(word for rule in rules for word in ("--fail-if", rule))) == code


@pytest.mark.parametrize("rule", ["p999 > 1", "p99", "p99 >", "cer.p90 > 1"])
def test_a_wrong_rule_is_told_before_anything_is_sent(
    server: BadServer, images: Path, rule: str, capsys: Said
) -> None:
    assert stress(server, images, "--fail-if", rule) == 2
    assert "--fail-if" in capsys.readouterr().err
    assert not server.bodies


def test_a_rule_about_what_was_not_measured_is_told_after_the_figures(
    server: BadServer, images: Path, capsys: Said
) -> None:
    assert stress(server, images, "--fail-if", "leaks > 0 or first_text.p50 > 3") == 2
    said = capsys.readouterr()
    assert "30 of 30" in said.out
    assert "leaks, first_text.p50 was not measured" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-n", "5", "--duration", "3"], "either"),
        (["--prompt", "nonsense"], "--prompt"),
        (["--images", "nowhere"], "no such file"),
        (["-o", "."], "folder"),
        (["--pid", "4194309"], "no process"),
        (["--api-key-env", "NO_SUCH_KEY"], "is empty"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_sent(
    server: BadServer, images: Path, words: list[str], told: str, capsys: Said
) -> None:
    assert main(["stress", server.url, "--images", str(images), *words]) == 2
    assert told in capsys.readouterr().err
    assert not server.bodies


def test_plain_http_to_another_machine_has_to_be_allowed(images: Path, capsys: Said) -> None:
    assert main(["stress", "http://192.0.2.1:8000", "--images", str(images)]) == 2
    assert "--allow-http" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_prints_the_figures_so_far(
    server: BadServer, images: Path, tmp_path: Path, as_json: bool
) -> None:
    server.behave = lambda number, body: Reply(delay=0.01)
    command = [sys.executable, "-m", "ocrsmith.cli.main", "stress", server.url, "--images", str(images)]
    command += ["--duration", "600", "-o", str(tmp_path / "stress.json"), *(["--json"] if as_json else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while time.monotonic() < until and process.poll() is None and server.number < 40:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.rstrip().endswith("Interrupted.")
    assert "Traceback" not in err
    result: dict[str, Any] = json.loads((tmp_path / "stress.json").read_text())
    assert result["interrupted"]
    assert 20 <= result["answered"] <= server.number
    assert result["errors"] == {}
    assert json.loads(out) == result if as_json else "requests answered in" in out
