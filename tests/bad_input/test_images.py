"""Images that are missing, damaged, hostile or something else: one clear message each."""

import os
import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.errors import ImageError
from ocrsmith.images.open import open_image


def encoded(kind: str, size: tuple[int, int] = (64, 48)) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


PICTURES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP")}


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(*part) for part in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    )


def refused(source, **options) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)
    error = caught.value
    assert error.problem
    assert error.place
    assert "\n" not in error.problem
    return error


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        error = refused(tmp_path / "nothing.png")
        assert error.reason == "missing"
        assert "does not exist" in error.problem
        assert error.place == str(tmp_path / "nothing.png")

    def test_folder(self, tmp_path: Path) -> None:
        error = refused(tmp_path)
        assert error.reason == "unreadable"
        assert "a folder" in error.problem

    def test_impossible_name(self) -> None:
        assert refused("a\x00b.png").reason == "missing"
        assert refused("x" * 5000).reason == "missing"

    def test_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe.png"
        os.mkfifo(pipe)
        assert "not a regular file" in refused(pipe).problem

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "secret.png"
        path.write_bytes(PICTURES["PNG"])

        def deny(*_args: object) -> None:  # the test may run as root, who may read everything
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", deny)
        assert "no permission" in refused(path).problem

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.jpg"
        path.touch()
        assert "empty (0 bytes)" in refused(path).problem
        assert "empty (0 bytes)" in refused(b"").problem


class TestSomethingElse:
    @pytest.mark.parametrize(
        ("head", "what"),
        [
            (b"%PDF-1.7\n\x00\xff", "PDF"),
            (b"SIMPLE  =                    T", "FITS"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "PostScript"),
            (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"),
            (b"PK\x03\x04\x14\x00\x00\x00", "ZIP"),
            (b"PAR1\x15\x04\x15", "parquet"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
            (b"  <!doctype html><html>", "web page"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
            ("发票 001\tимя".encode(), "text"),
            (b"images/1.png some text\n", "text"),
            (bytes(range(128, 256)), "not an image of a known format"),
        ],
    )
    def test_is_named(self, head: bytes, what: str) -> None:
        error = refused(head)
        assert what in error.problem
        assert error.reason == "unreadable"
        assert error.mend

    def test_long_text_cut_within_a_character(self) -> None:
        assert "text" in refused(b"a" + "页".encode() * 400).problem

    def test_fits_bomb_is_never_parsed(self) -> None:
        cards = [
            "SIMPLE  =                    T",
            "BITPIX  =                    8",
            "NAXIS   =                    2",
        ]
        cards += ["NAXIS1  =               999999", "NAXIS2  =               999999", "END"]
        head = b"".join(card.ljust(80).encode() for card in cards).ljust(2880)
        assert "FITS" in refused(head).problem


class TestBombs:
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize(("width", "height"), [(20_000, 5_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
    def test_are_refused_before_decoding(self, width: int, height: int) -> None:
        tracemalloc.start()
        error = refused(png_claiming(width, height))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert error.reason in ("too_large", "unreadable")
        assert "too large" in error.problem or width > 2**30
        assert peak < 5_000_000

    def test_limit_is_exact(self) -> None:
        assert open_image(PICTURES["PNG"], max_pixels=64 * 48).size == (64, 48)
        error = refused(PICTURES["PNG"], max_pixels=64 * 48 - 1)
        assert "64×48 = 3,072 pixels, the limit is 3,071" in error.problem
        assert error.reason == "too_large"

    def test_page_within_the_limit_is_read(self) -> None:
        buffer = BytesIO()
        Image.new("1", (9_000, 9_000)).save(buffer, "PNG")
        assert open_image(buffer.getvalue(), keep_grey=True).size == (9_000, 9_000)


class TestDamage:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_cut_short(self, kind: str, share: float) -> None:
        data = PICTURES[kind]
        error = refused(data[: int(len(data) * share)])
        assert "damaged or cut short" in error.problem
        assert error.reason == "unreadable"

    def test_tiff_without_its_directory(self) -> None:
        refused(PICTURES["TIFF"][:200])

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    def test_random_damage_gives_an_image_or_one_clear_error(self, data: st.DataObject) -> None:
        picture = bytearray(PICTURES[data.draw(st.sampled_from(sorted(PICTURES)))])
        for _ in range(data.draw(st.integers(1, 8))):
            picture[data.draw(st.integers(0, min(len(picture) - 1, 400)))] = data.draw(st.integers(0, 255))
        try:
            image = open_image(bytes(picture[: data.draw(st.integers(1, len(picture)))]), max_pixels=1_000_000)
        except ImageError as error:
            assert "\n" not in error.problem  # noqa: PT017 - both ends are allowed
        else:
            assert image.mode == "RGB"

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=600))
    def test_random_bytes(self, data: bytes) -> None:
        try:
            open_image(data, max_pixels=1_000_000)
        except ImageError as error:
            assert error.place  # noqa: PT017 - both ends are allowed
