"""Two small real fonts, and lines of text that they can draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ocrsmith.datasets.synth.faces import FaceSet
from ocrsmith.datasets.synth.font_index import Face, scan_fonts

CJK = Path(__file__).parent / "fonts" / "noto_cjk_part.otf"
"""Some hundred hanzi of Noto Sans CJK SC with marks and their vertical forms, ASCII."""
DEJAVU = Path(__file__).parents[2] / "nano" / "fonts" / "dejavu_sans_part.ttf"
"""Latin and Persian of DejaVu Sans: letters, their presentation forms, and the joining features."""

CHINESE = ["春天来了，花园里的花开了。", "王小明一九年三月二日", "你好，世界！（文字识别）", "合同编号一二三"]
PERSIAN = ["این کتاب در تهران منتشر شد.", "می‌خواهم فردا بروم (۱۲)", "خیابان ولیعصر، پلاک ۲۷", "سلام Latin دنیا"]
LATIN = ["The committee met on Tuesday, 14 March.", "Invoice No. 70415-B: $1,284.50", "Room 12, Building C"]

TextMaker = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The index of fonts goes into the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """DejaVu's and Noto's part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return FaceSet(scan_fonts([DEJAVU, CJK]).faces)


@pytest.fixture(scope="session")
def dejavu(faces: FaceSet) -> Face:
    """The face for Latin and Persian."""
    return next(face for face in faces.faces if "DejaVu" in face.path or "dejavu" in face.path)


@pytest.fixture(scope="session")
def cjk(faces: FaceSet) -> Face:
    """The face for Chinese."""
    return next(face for face in faces.faces if "cjk" in face.path)


@pytest.fixture
def texts(tmp_path: Path) -> TextMaker:
    """Writes a file of lines."""

    def make(lines: list[str], name: str = "texts.txt") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make
