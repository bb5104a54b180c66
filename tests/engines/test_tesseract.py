"""The engine `tesseract`: with a stand-in that speaks its command line, and with the real one where it is."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.engines.base import Engine, PageRequest
from ocrsmith.engines.tesseract import TesseractEngine

STAND_IN = """#!{python}
import sys, time, os, io
words = sys.argv[1:]
if words == ["--version"]:
    print("tesseract 9.9.9\\n leptonica-1.0")
elif words == ["--list-langs"]:
    print('List of available languages in "{folder}/" (2):\\neng\\nchi_sim')
else:
    image = sys.stdin.buffer.read()
    width = int.from_bytes(image[16:20], "big")  # of a PNG
    {action}
    print(" ".join(words), width, os.environ.get("OMP_THREAD_LIMIT"))
    print("\\f", end="")
"""


def stand_in(folder: Path, action: str = "pass") -> str:
    """An executable that answers as tesseract does; `action` is a line of Python done for each page."""
    (folder / "eng.traineddata").write_bytes(b"data")
    path = folder / "tesseract"
    path.write_text(STAND_IN.format(python=sys.executable, folder=folder, action=action))
    path.chmod(0o755)
    return str(path)


def page(width: int = 60) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, 20), "white").save(buffer, "JPEG")
    return buffer.getvalue()


def test_pages_go_through_the_program(tmp_path: Path) -> None:
    engine = TesseractEngine.load(program=stand_in(tmp_path), language="eng+chi_sim", psm=7, workers=2)
    assert isinstance(engine, Engine)
    seen: list[int] = []
    requests = [PageRequest(str(width), page(width)) for width in (50, 60, 70)]
    got = {p.id: p for p in engine.read(requests, progress=seen.append)}
    for width in ("50", "60", "70"):
        assert got[width].text == f"stdin stdout -l eng+chi_sim --psm 7 {width} 1"
        assert got[width].finish_reason == "stop"
        assert got[width].seconds > 0
    assert sum(seen) == 3


def test_all_that_decides_the_answers_is_described(tmp_path: Path) -> None:
    told = TesseractEngine.load(program=stand_in(tmp_path), workers=3).describe()
    assert told["version"] == "tesseract 9.9.9"
    assert told["language"] == "eng"
    assert told["psm"] == 3
    assert list(told["language_data"]) == ["eng"]
    assert told["language_data"]["eng"].startswith("sha256:")
    assert set(told["not_honoured"]) == {"prompt", "processing", "decoding"}
    assert told["runtime"]["workers"] == 3
    json.dumps(told)


def test_the_program_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert TesseractEngine.load().version == "tesseract 9.9.9"


def test_an_interruption_ends_the_programs_that_run(tmp_path: Path) -> None:
    started = tmp_path / "started"
    action = f"width == 50 and (open({str(started)!r}, 'w').close(), time.sleep(60))"
    engine = TesseractEngine.load(program=stand_in(tmp_path, action), workers=2)
    requests = [PageRequest("slow", page(50)), PageRequest("quick", page(60))]
    reading = engine.read(requests)
    before = threading.active_count()
    assert next(reading).id == "quick"
    while not started.exists():
        time.sleep(0.01)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        reading.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert time.monotonic() - begin < 30  # it did not wait for the program
    assert threading.active_count() == before


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="the program tesseract is not installed")
def test_the_real_program_reads_a_line() -> None:
    image = Image.new("RGB", (900, 120), "white")
    ImageDraw.Draw(image).text((20, 20), "Reading pages 1984", "black", ImageFont.load_default(64))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    engine = TesseractEngine.load(psm=7)
    (got,) = engine.read([PageRequest("line", buffer.getvalue())])
    assert (got.text, got.finish_reason) == ("Reading pages 1984", "stop")
    assert engine.describe()["version"].startswith("tesseract ")
    assert engine.describe()["language_data"]["eng"].startswith("sha256:")
