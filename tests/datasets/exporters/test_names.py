"""Names of exported images: safe, unique, inside their folder, with the suffix of what they hold."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.exporters.names import ImageNames, suffix_of
from ocrsmith.records import PageSample

PNG, JPEG = b"\x89PNG\r\n\x1a\n....", b"\xff\xd8\xff\xe0...."


def sample(sample_id: str, image: bytes = PNG, path: str = "") -> PageSample:
    return PageSample(id=sample_id, image=image, image_path=path, text="x")


@pytest.mark.parametrize(
    ("sample_id", "name"),
    [
        ("images/0001.png", "images/0001.png"),
        ("images/a/0001.PNG", "images/a/0001.PNG"),
        ("scan 1", "images/scan_1.png"),
        ("页面/第3页.png", "images/页面/第3页.png"),
        ("page.xml#line_12", "images/page.xml_line_12.png"),
        ("photo.jpg", "images/photo.png"),  # what it holds counts, not what it is called
        ("../../etc/passwd", "images/_/_/etc/passwd.png"),
        ("/absolute/a.png", "images/absolute/a.png"),
        ("C:\\scans\\a.png", "images/C_/scans/a.png"),
        ("v1.2/a.png", "images/v1_2/a.png"),
        ("nul", "images/_nul.png"),
        ("", "images/_.png"),
        ("a\tb\nc", "images/a_b_c.png"),
    ],
)
def test_names_follow_ids_as_far_as_they_are_safe(sample_id: str, name: str) -> None:
    assert ImageNames().take(sample(sample_id)) == name


def test_the_files_own_suffix_is_kept_where_it_is_right() -> None:
    assert suffix_of(JPEG, "a/b.jpeg") == ".jpeg"
    assert suffix_of(JPEG, "a/b.png") == ".jpg"
    assert suffix_of(b"P6 1 1 255 ...", "b.PPM") == ".PPM"
    assert suffix_of(b"RIFF....WEBPVP8 ", "") == ".webp"
    assert suffix_of(b"?????", "b.png") == ".img"


def test_names_that_a_system_may_take_for_the_same_get_a_number() -> None:
    names = ImageNames()
    found = [names.take(sample(name)) for name in ("a", "A", "a", "a-2", "ä", "a\u0308")]
    expected = ["a", "A-2", "a-3", "a-2-2", "ä", "a_"]
    assert found == [f"images/{name}.png" for name in expected]


@given(ids=st.lists(st.text(max_size=300), max_size=20))
def test_any_ids_give_safe_and_unique_names(ids: list[str]) -> None:
    names = ImageNames()
    found = [names.take(sample(sample_id)) for sample_id in ids]
    folders = {parent for name in found for parent in PurePosixPath(name).parents}
    assert len({name.casefold() for name in found}) == len(found)
    for name in found:
        path = PurePosixPath(name)
        assert path.parts[0] == "images"
        assert len(path.parts) > 1
        assert not path.is_absolute()
        assert path not in folders
        assert ".." not in path.parts
        assert all(len(part.encode()) < 200 and not set(part) & set('\\:*?"<>|\t\n\0 ') for part in path.parts)
        assert path.suffix == ".png"
