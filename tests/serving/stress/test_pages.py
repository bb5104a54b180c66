"""Images are checked before any is sent, encoded once, and made into requests that every server understands."""

from __future__ import annotations

import base64
import json
import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ocrsmith.errors import InputError
from ocrsmith.serving.stress.pages import Page, RequestForm, load_pages


def test_all_images_of_a_folder_are_taken_in_the_order_of_their_names(images: Path) -> None:
    Image.new("L", (9, 9)).save(images / ".hidden.png")
    pages = load_pages(images)
    assert [page.name for page in pages.kept] == ["a.png", "b.jpg", "c.webp", "deep/d.png"]
    assert (pages.left_out, pages.beyond) == ([], 0)
    head, data = pages.kept[1].image.split(b",")
    assert head == b"data:image/jpeg;base64"
    assert base64.b64decode(data) == (images / "b.jpg").read_bytes()


def test_what_readers_show_differently_goes_as_png(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.tiff")
    page = load_pages(tmp_path / "clear.tiff").kept[0]
    assert page.name == "clear.tiff"
    head, data = page.image.split(b",")
    assert head == b"data:image/png;base64"
    with Image.open(BytesIO(base64.b64decode(data))) as image:
        assert image.convert("L").getpixel((0, 0)) == 255


def test_files_that_are_no_images_are_told_and_not_sent(images: Path) -> None:
    (images / "notes.md").write_text("# about")
    (images / "cut.png").write_bytes((images / "a.png").read_bytes()[:40])
    (images / "empty.png").touch()
    os.mkfifo(images / "pipe.png")
    (images / "nowhere.png").symlink_to(images / "gone")
    pages = load_pages(images)
    assert len(pages.kept) == 4
    reasons = dict(pages.left_out)
    assert set(reasons) == {"notes.md", "cut.png", "empty.png", "pipe.png", "nowhere.png"}
    assert "text" in reasons["notes.md"]
    assert reasons["pipe.png"] == "It is no file."


def test_memory_for_pages_is_bounded(images: Path) -> None:
    few = load_pages(images, max_bytes=1)
    assert ([page.name for page in few.kept], few.beyond) == (["a.png"], 3)
    few = load_pages(images, most=3)
    assert (len(few.kept), few.beyond) == (3, 1)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image to send"):
        load_pages(tmp_path)
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError, match="text"):
        load_pages(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_pages(tmp_path / "other")


def test_the_request_is_what_the_engine_for_such_servers_sends() -> None:
    form = RequestForm.make("néa", '<image>\nSay "{"url": ""}" 好.', max_tokens=5)
    body = json.loads(form.fill(Page("x", b"data:image/png;base64,AAAA")))
    assert body == {
        "model": "néa",
        "temperature": 0,
        "max_tokens": 5,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "text", "text": 'Say "{"url": ""}" 好.'},
                ],
            }
        ],
    }
    body = json.loads(RequestForm.make("m", "Read.", stream=True).fill(Page("x", b"data:,")))
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert "max_tokens" not in body
