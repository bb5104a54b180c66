"""Documents read into a folder: kept, resumed, written, refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image

from ocrsmith.engines.base import Engine
from ocrsmith.errors import OcrsmithError, OutputError
from ocrsmith.reading.answers import Bounds
from ocrsmith.reading.inputs import find_inputs
from ocrsmith.reading.job import KEPT, Job, Outcome, Run
from ocrsmith.reading.pdf import PageRange, PdfOptions
from ocrsmith.reading.read import Window
from ocrsmith.reading.sources import Opener

from .conftest import StandIn, line_image, write_pdf, write_png, write_tiff


def read(
    given: Path | Sequence[Path],
    out: Path,
    engine: Engine | None = None,
    *,
    pages: str | None = None,
    formats: Sequence[str] = ("md",),
    dpi: float = 144,
    **job: Any,
) -> Outcome:
    paths = [given] if isinstance(given, Path) else given
    with Opener(PdfOptions(dpi=dpi)) as opener:
        files = find_inputs(paths, out=out).files
        sources = [opener.inspect(item.path, PageRange.parse(pages)) for item in files]
        what = Job(files, sources, out, formats, **job)
        what.check()
        return Run(what, engine or StandIn(), opener, window=Window(first=1, pages=2)).read()


def tiff(path: Path, count: int = 3) -> Path:
    return write_tiff(path, [line_image("x", 100 + number) for number in range(1, count + 1)])


def test_each_format_holds_all_pages(tmp_path: Path) -> None:
    outcome = read(tiff(tmp_path / "x.tif"), tmp_path / "out", formats=("md", "txt", "json"))
    out = tmp_path / "out"
    assert (out / "x.md").read_text() == (
        "<!-- page 1 -->\n\nwidth 101\n\n<!-- page 2 -->\n\nwidth 102\n\n<!-- page 3 -->\n\nwidth 103\n"
    )
    assert (out / "x.txt").read_text() == "width 101\n\fwidth 102\n\fwidth 103\n"
    document = json.loads((out / "x.json").read_text())
    assert document["format"] == "ocrsmith-document-1"
    assert document["engine"]["name"] == "stand-in"
    assert [(page["page"], page["text"], page["width"]) for page in document["pages"]] == [
        (1, "width 101", 101),
        (2, "width 102", 102),
        (3, "width 103", 103),
    ]
    assert (outcome.documents, outcome.pages, outcome.failed) == (1, 3, [])
    assert outcome.files == [[out / "x.md", out / "x.txt", out / "x.json"]]


def test_a_single_page_has_no_comment(tmp_path: Path) -> None:
    read(write_png(tmp_path / "x.png"), tmp_path / "out")
    assert (tmp_path / "out" / "x.md").read_text() == "width 100\n"


def test_folders_keep_their_structure(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a" / "x.png", 100)
    write_png(tmp_path / "in" / "b" / "x.png", 101)
    read(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "a" / "x.md").read_text() == "width 100\n"
    assert (tmp_path / "out" / "b" / "x.md").read_text() == "width 101\n"


class Dying(StandIn):
    """Reads some pages, then the user or the machine ends it."""

    def __init__(self, after: int, error: BaseException) -> None:
        super().__init__()
        self.after, self.error = after, error

    def read(self, requests: Any, *, progress: Any = None) -> Iterator[Any]:
        for prediction in super().read(requests):
            if not self.after:
                raise self.error
            self.after -= 1
            yield prediction


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OcrsmithError("gone")], ids=["interrupt", "trouble"])
def test_a_stopped_job_goes_on_where_it_stopped(error: BaseException, tmp_path: Path) -> None:
    files = [tiff(tmp_path / "x.tif", 5), tiff(tmp_path / "y.tif", 2)]
    out = tmp_path / "out"
    with pytest.raises(type(error)):
        read(files, out, Dying(2, error))
    assert [path.name for path in out.iterdir()] == [KEPT]
    engine = StandIn()
    assert read(files, out, engine).pages == 7
    assert len(engine.widths) == 5
    assert (out / "x.md").read_text().count("width") == 5


def test_a_line_torn_by_a_kill_is_dropped(tmp_path: Path) -> None:
    source, out = tiff(tmp_path / "x.tif"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        read(source, out, Dying(2, KeyboardInterrupt()))
    journal = out / KEPT / "x.jsonl"
    with journal.open("rb+") as file:
        file.truncate(journal.stat().st_size - 5)
    engine = StandIn()
    assert read(source, out, engine).pages == 3
    assert len(engine.widths) == 2


def test_what_is_finished_is_neither_read_nor_written_again(tmp_path: Path) -> None:
    source, out = tiff(tmp_path / "x.tif"), tmp_path / "out"
    read(source, out)
    (out / "x.md").write_text("corrected by hand")
    engine = StandIn()
    outcome = read(source, out, engine)
    assert (engine.widths, outcome.pages) == ([], 3)
    assert (out / "x.md").read_text() == "corrected by hand"


def test_a_further_format_is_written_without_reading(tmp_path: Path) -> None:
    source, out = tiff(tmp_path / "x.tif"), tmp_path / "out"
    read(source, out)
    engine = StandIn()
    read(source, out, engine, formats=("json",))
    assert engine.widths == []
    assert len(json.loads((out / "x.json").read_text())["pages"]) == 3


def test_further_pages_are_read_and_the_earlier_ones_kept(tmp_path: Path) -> None:
    source, out = tiff(tmp_path / "x.tif"), tmp_path / "out"
    read(source, out, pages="2")
    assert (out / "x.md").read_text() == "width 102\n"
    engine = StandIn()
    read(source, out, engine)
    assert sorted(engine.widths) == [101, 103]
    assert (out / "x.md").read_text().count("width") == 3


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    source, out = write_png(tmp_path / "x.png", 100), tmp_path / "out"
    read(source, out)
    write_png(source, 140)
    os.utime(source, (1, 1))
    read(source, out)
    assert (out / "x.md").read_text() == "width 140\n"


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    source, out = write_png(tmp_path / "x.png"), tmp_path / "out"
    read(source, out, StandIn(mode="tiny"))
    with pytest.raises(OutputError, match=r"engine.mode: 'tiny', now 'base'"):
        read(source, out, StandIn(mode="base"))
    with pytest.raises(OutputError, match=r"prompt: None, now"):
        read(source, out, StandIn(mode="tiny"), prompt="<image>")
    read(source, out, StandIn(mode="base"), overwrite=True)
    assert '"mode": "base"' in (out / KEPT / "x.jsonl").read_text()


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    source, out = write_png(tmp_path / "x.png"), tmp_path
    (out / "x.md").write_text("my notes")
    with pytest.raises(OutputError, match=r"'x.md' would be overwritten"):
        read(source, out)
    assert (out / "x.md").read_text() == "my notes"
    read(source, out, overwrite=True)
    assert (out / "x.md").read_text() == "width 100\n"


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    source, out = write_png(tmp_path / "x.png"), tmp_path / "out"
    read(source, out)
    journal = out / KEPT / "x.jsonl"
    journal.write_text(journal.read_text().replace('"number"', '"nonsense"'))
    with pytest.raises(OutputError, match="damaged") as caught:
        read(source, out)
    assert caught.value.place == f"{journal}, line 2"
    journal.write_text("what is this?\n")
    with pytest.raises(OutputError, match="damaged, or of another version"):
        read(source, out)


def test_a_page_that_fails_is_listed_and_tried_again(tmp_path: Path) -> None:
    def failing(image: Image.Image) -> dict[str, Any]:
        if image.width == 102:
            return {"text": "", "finish_reason": "error", "error": "no -- luck -->"}
        return {"text": "fine", "finish_reason": "length" if image.width == 103 else "stop"}

    source, out = tiff(tmp_path / "x.tif"), tmp_path / "out"
    outcome = read(source, out, StandIn(failing), formats=("md", "txt", "json"))
    assert [(item.page, item.reason) for item in outcome.failed] == [(2, "no -- luck -->")]
    assert [(item.page, item.reason) for item in outcome.cut] == [(3, "cut off at the token limit")]
    assert outcome.pages == 2
    text = (out / "x.md").read_text()
    assert "<!-- page 2: could not be read: no - - luck - -› -->" in text
    assert "<!-- page 3: cut off at the token limit -->\n\nfine" in text
    assert (out / "x.txt").read_text() == "fine\n\f\n\ffine\n"
    page = json.loads((out / "x.json").read_text())["pages"][1]
    assert (page["error"], page["finish_reason"], page["text"]) == ("no -- luck -->", "error", "")
    engine = StandIn()
    assert read(source, out, engine).failed == []
    assert engine.widths == [102]
    assert "width 102" in (out / "x.md").read_text()


def test_a_file_that_cannot_be_opened_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    outcome = read([tmp_path / "a.png", write_png(tmp_path / "b.png")], tmp_path / "out")
    assert [(item.source, item.page) for item in outcome.failed] == [(str(tmp_path / "a.png"), None)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [KEPT, "b.md"]


def test_what_is_uncertain_is_in_the_json_and_marked_where_asked(tmp_path: Path) -> None:
    def unsure(image: Image.Image) -> dict[str, Any]:
        return {
            "text": "the bridge",
            "token_ends": (4, 10),
            "token_logprobs": (-0.01, -1.0),
            "logprob_mean": -0.5,
        }

    source, out = write_png(tmp_path / "x.png"), tmp_path / "out"
    formats = ("md", "txt", "json")
    read(source, out, StandIn(unsure), formats=formats)
    assert (out / "x.md").read_text() == "the bridge\n"
    document = json.loads((out / "x.json").read_text())
    (span,) = document["pages"][0]["low_confidence"]
    assert (span["start"], span["end"], span["text"]) == (4, 10, "bridge")
    assert span["confidence"] == pytest.approx(0.3679, abs=1e-4)
    assert 0.5 < document["pages"][0]["confidence"] < 0.7
    engine = StandIn(unsure)
    read(source, out, engine, formats=formats, marked=True)
    assert engine.widths == []
    assert (out / "x.md").read_text() == "the <mark>bridge</mark>\n"
    assert (out / "x.txt").read_text() == "the ⟦bridge⟧\n"
    read(source, out, engine, formats=formats, marked=True, bounds=Bounds(below=0.3))
    assert (out / "x.md").read_text() == "the bridge\n"


def test_a_searchable_pdf_holds_the_page_images_and_their_text(tmp_path: Path) -> None:
    def failing(image: Image.Image) -> dict[str, Any]:
        failed = {"text": "", "finish_reason": "error", "error": "no luck"}
        return failed if image.width == 102 else {"text": f"width {image.width}"}

    source, out = tiff(tmp_path / "x.tif"), tmp_path / "out"
    outcome = read(source, out, StandIn(failing), formats=("md", "pdf"), marked=True)
    assert outcome.files == [[out / "x.md", out / "x.pdf"]]
    assert outcome.placed.total() == 2
    with pypdfium2.PdfDocument(out / "x.pdf") as document:
        assert [page.get_textpage().get_text_bounded() for page in document] == ["width 101", "", "width 103"]
        assert [round(page.get_size()[0] * 2) for page in document] == [101, 102, 103]  # 144 dpi
    engine = StandIn(failing)
    before = (out / "x.pdf").stat().st_mtime_ns
    read(source, out, StandIn(), formats=("pdf",), pages="1,3")
    assert engine.widths == []
    with pypdfium2.PdfDocument(out / "x.pdf") as document:
        assert len(document) == 2
    assert (out / "x.pdf").stat().st_mtime_ns > before


def test_pages_of_pdfs_keep_their_size(tmp_path: Path) -> None:
    source, out = write_pdf(tmp_path / "in" / "x.pdf", ["Total 1234", "Invoice 77"]), tmp_path / "out"
    read(source, out, StandIn(), formats=("pdf",), dpi=100)
    with pypdfium2.PdfDocument(out / "x.pdf") as document:
        assert [page.get_size() for page in document] == [(300, 40), (310, 40)]
        assert document[1].get_textpage().get_text_bounded() == "width 431"


def test_tables_are_joined_where_asked_but_not_in_pdfs(tmp_path: Path) -> None:
    def rows(image: Image.Image) -> dict[str, Any]:
        return {"text": f"| a | b |\n|---|---|\n| {image.width} | x |"}

    source, out = tiff(tmp_path / "x.tif", 2), tmp_path / "out"
    formats = ("md", "json", "pdf")
    read(source, out, StandIn(rows), formats=formats)
    assert (out / "x.md").read_text().count("| a | b |") == 2
    engine = StandIn(rows)
    read(source, out, engine, formats=formats, join_tables=True)
    assert engine.widths == []
    assert (out / "x.md").read_text() == (
        "<!-- page 1 -->\n\n| a | b |\n|---|---|\n| 101 | x |\n| 102 | x |\n\n<!-- page 2 -->\n"
    )
    first, second = json.loads((out / "x.json").read_text())["pages"]
    assert first["joined_tables"][0]["pages"] == [1, 2]
    assert (second["text"], second["table_begins_on"]) == ("", 1)
    assert second["answer"] == "| a | b |\n|---|---|\n| 102 | x |"
    with pypdfium2.PdfDocument(out / "x.pdf") as document:
        found = [page.get_textpage().get_text_bounded().split() for page in document]
    assert found == [["a", "b", "101", "x"], ["a", "b", "102", "x"]]
