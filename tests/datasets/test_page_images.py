"""The images that candidates name: where they may lie, and lines cut from pages."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset
from ocrsmith.datasets.importers import Candidate, LineCrop
from ocrsmith.datasets.page_images import PageImages
from ocrsmith.errors import DataError, ImageError


def candidate(image: Any, within: Path | None = None) -> Candidate:
    return Candidate(image, str(image), "text", "source", 1, within=within)


@pytest.fixture
def places(tmp_path: Path, png: Any) -> Path:
    """A source's folder with a picture inside, one beside it, and links in and out."""
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (source / "images" / "in.png").write_bytes(png())
    (tmp_path / "private.png").write_bytes(png())
    (tmp_path / "source-2").mkdir()
    (tmp_path / "source-2" / "near.png").write_bytes(png())
    (source / "link-in.png").symlink_to(source / "images" / "in.png")
    (source / "link-out.png").symlink_to(tmp_path / "private.png")
    (source / "folder-out").symlink_to(tmp_path / "source-2")
    (source / "loop.png").symlink_to(source / "loop.png")
    return source


@pytest.mark.parametrize("written", ["images/in.png", "images/../images/in.png", "link-in.png"])
def test_what_lies_inside_is_read(written: str, places: Path) -> None:
    data, image = PageImages().read(candidate(places / written, places))
    assert image.size == (40, 20)
    assert data == (places / "images" / "in.png").read_bytes()


@pytest.mark.parametrize(
    "written",
    ["../private.png", "link-out.png", "folder-out/near.png", "../source-2/near.png", "/etc/hostname"],
)
def test_what_lies_outside_is_not_opened(written: str, places: Path) -> None:
    with pytest.raises(ImageError, match="outside the source's folder") as caught:
        PageImages().read(candidate(places / written, places))
    assert caught.value.reason == "outside"
    assert "--allow-outside" in (caught.value.mend or "")


def test_links_in_a_circle_and_pipes_are_refused(places: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        PageImages().read(candidate(places / "loop.png", places))
    os.mkfifo(places / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        PageImages().read(candidate(places / "pipe.png", places))


def test_a_switch_lets_them_in(places: Path, tmp_path: Path) -> None:
    labels = places / "content.md"
    labels.write_text("images/in.png\tone\n../private.png\ttwo\n", encoding="utf-8")
    settings = BuildSettings(splits="100/0/0")
    assert build_dataset([labels], tmp_path / "a", settings).excluded == {"outside": 1}
    both = BuildSettings(splits="100/0/0", allow_outside=True)
    assert build_dataset([labels], tmp_path / "b", both).samples == 2
    labels.write_text("../private.png\ttwo\n", encoding="utf-8")
    with pytest.raises(DataError, match="no usable sample") as caught:
        build_dataset([labels], tmp_path / "c", settings)
    assert "outside" in caught.value.problem


def test_lines_are_cut_and_their_page_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(60 * 80, dtype=np.uint32).reshape(60, 80) % 251
    page = tmp_path / "page.png"
    Image.fromarray(pixels.astype(np.uint8)).convert("RGB").save(page)
    opened = []
    whole = PageImages.__module__
    from ocrsmith.datasets import page_images

    original = page_images.open_image
    monkeypatch.setattr(f"{whole}.open_image", lambda data: opened.append(1) or original(data))
    images = PageImages()
    for top in (0, 20, 40):
        data, image = images.read(candidate(LineCrop(page, ((10, top), (70, top + 15)))))
        assert image.size == (60, 15)
        assert np.array_equal(np.asarray(image)[..., 0], pixels[top : top + 15, 10:70])
        assert Image.open(BytesIO(data)).size == (60, 15)
    assert len(opened) == 1


def test_a_line_outside_its_page_goes_to_the_ledger_alone(tmp_path: Path, png: Any) -> None:
    from ocrsmith.datasets.checks import ESTIMATED_LENGTH, Checked, examine

    page = png(40, 20)
    good = examine(candidate(LineCrop(page, ((0, 0), (30, 15)))), min_side=10, length=ESTIMATED_LENGTH)
    bad = examine(candidate(LineCrop(page, ((90, 90), (120, 120)))), min_side=10, length=ESTIMATED_LENGTH)
    assert isinstance(good, Checked)
    assert (good.width, good.height) == (30, 15)
    assert not isinstance(bad, Checked)
    assert bad.reason == "outside_page"


def test_pages_of_many_documents_are_not_all_kept(tmp_path: Path, png: Any) -> None:
    images = PageImages()
    for number in range(12):
        images.read(candidate(LineCrop(png(shade=number), ((0, 0), (30, 15)))))
    assert len(images._pages) <= 4


def test_every_format_has_a_name_in_the_help() -> None:
    from ocrsmith.cli.data.build import FORMAT_NAMES
    from ocrsmith.datasets.importers import FORMATS

    assert {name.strip() for name in FORMAT_NAMES.split(",")} == {one.name for one in FORMATS}


def test_a_dataset_of_lines_holds_the_cut_images(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    Image.new("RGB", (200, 100), "white").save(folder / "a.png")
    boxes = '[{"transcription": "%s", "points": [[%d, %d], [%d, %d], [%d, %d], [%d, %d]]}]'
    (folder / "Label.txt").write_text(
        f"a.png\t{boxes % ('first', 10, 10, 110, 10, 110, 30, 10, 30)}\n", encoding="utf-8"
    )
    settings = BuildSettings(splits="100/0/0", unit="line")
    build_dataset([folder / "Label.txt"], tmp_path / "out", settings)
    (sample,) = open_dataset(tmp_path / "out").iter_samples("train")
    assert sample.text == "first"
    assert Image.open(BytesIO(sample.image)).size == (100, 20)
    assert sample.group
