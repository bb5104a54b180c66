"""`ocrsmith data` with bad input: one clear message, exit code 2, nothing written."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ocrsmith.cli.main import main
from ocrsmith.datasets import build_dataset
from ocrsmith.errors import DataError

Fail = Callable[..., str]


def encoded(kind: str = "PNG", size: tuple[int, int] = (60, 30)) -> bytes:
    stream = BytesIO()
    Image.effect_noise(size, 50).save(stream, kind)
    return stream.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a hundred bytes whose header promises 3.6 billion pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three good images."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(encoded())
    return folder


@pytest.fixture
def fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fail:
    """Runs `data build`, which has to fail well; gives what it said."""

    def run(source: Path | str, *options: str, out: str = "out") -> str:
        before = sorted(path for path in tmp_path.rglob("*"))
        code = main(["data", "build", str(source), "-o", str(tmp_path / out), *options])
        said = capsys.readouterr()
        assert code == 2, said.err
        assert said.err.count("Error:") == 1
        assert "mend:" in said.err
        assert "Traceback" not in said.err
        assert sorted(path for path in tmp_path.rglob("*")) == before, "something was written"
        return said.err

    return run


def labels(folder: Path, *lines: str, name: str = "content.md") -> Path:
    file = folder / name
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_a_source_that_is_not_there(fail: Fail, tmp_path: Path) -> None:
    message = fail(tmp_path / "nothing.md")
    assert "does not exist" in message
    assert str(tmp_path / "nothing.md") in message


def test_a_hub_id(fail: Fail) -> None:
    assert "save_to_disk" in fail("someone/some-dataset")


def test_a_text_file_that_is_a_picture(fail: Fail, tmp_path: Path) -> None:
    for name, kind in (
        ("content.md", "PNG"),
        ("labels.csv", "JPEG"),
        ("labels.tsv", "TIFF"),
        ("list.txt", "WEBP"),
    ):
        (tmp_path / name).write_bytes(encoded(kind))
        message = fail(tmp_path / name)
        assert "picture, not a text file" in message
        assert name in message


def test_pictures_that_are_texts(fail: Fail, images: Path) -> None:
    (images / "a.png").write_text("Dear Sir, …", encoding="utf-8")
    message = fail(labels(images, "a.png\tDear Sir"))
    assert "content.md, line 1: unreadable" in message
    assert "Dear Sir, …" in message


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (encoded("JPEG", (800, 600))[:3000], "unreadable", "cut short"),
        (bomb(), "too_large", "too large to be decoded safely"),
        (b"", "unreadable", "0 bytes"),
        (encoded(size=(200, 9)), "too_small", "200×9"),
    ],
    ids=["truncated", "bomb", "empty", "small"],
)
def test_bad_images_with_strict(fail: Fail, images: Path, data: bytes, reason: str, words: str) -> None:
    (images / "bad.png").write_bytes(data)
    file = labels(images, "0.png one", "1.png two", "2.png three", "bad.png four")
    message = fail(file, "--strict")
    assert f"content.md, line 4: {reason}" in message
    assert words in message
    assert "1 of 4" in message


def test_an_image_path_that_is_a_folder_or_cannot_be_one(fail: Fail, images: Path) -> None:
    (images / "folder").mkdir()
    message = fail(labels(images, "folder one", "x" * 300 + ".png two", "../source/gone.png three"))
    assert "line 1: unreadable" in message
    assert "folder, not an image" in message
    assert "line 2: unreadable" in message
    assert "line 3: missing" in message


def test_a_zero_byte_parquet(fail: Fail, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    message = fail(tmp_path / "a.parquet")
    assert "empty (0 bytes)" in message
    assert str(tmp_path / "a.parquet") in message


def test_a_truncated_parquet_and_one_that_is_none(fail: Fail, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [encoded()] * 50, "text": ["a"] * 50}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for data in (whole[: len(whole) // 2], whole[:4], b"image,text\n"):
        (tmp_path / "a.parquet").write_bytes(data)
        assert "Parquet file cannot be read" in fail(tmp_path / "a.parquet")


def test_a_parquet_damaged_inside(fail: Fail, tmp_path: Path) -> None:
    table = pa.table({"image": [encoded()] * 50, "text": [str(number) for number in range(50)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", write_page_checksum=True)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:400] = bytes(396)
    (tmp_path / "a.parquet").write_bytes(data)
    assert "damaged" in fail(tmp_path / "a.parquet")


def test_missing_columns_are_listed(fail: Fail, tmp_path: Path) -> None:
    pq.write_table(pa.table({"picture": [b"x"], "caption": ["a"]}), tmp_path / "a.parquet")
    message = fail(tmp_path / "a.parquet", "--image-column", "picture")
    assert "'picture', 'caption'" in message
    assert "--text-column" in message


@pytest.mark.parametrize("kind", ["content.md", "labels.tsv", "labels.csv", "a.parquet"])
def test_a_dataset_with_one_sample(fail: Fail, images: Path, kind: str) -> None:
    if kind.endswith("parquet"):
        pq.write_table(pa.table({"image": ["0.png"], "text": ["one"]}), images / kind)
    else:
        labels(images, "0.png,one" if kind.endswith("csv") else "0.png\tone", name=kind)
    message = fail(images / kind)
    assert "only one usable sample" in message
    assert "--splits 100/0/0" in message


def test_sources_without_rows(fail: Fail, tmp_path: Path) -> None:
    assert "no rows" in fail(labels(tmp_path, "# only a comment", ""))
    pq.write_table(
        pa.table({"image": pa.array([], pa.string()), "text": pa.array([], pa.string())}),
        tmp_path / "a.parquet",
    )
    assert "no rows" in fail(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("image,text\n")
    assert "no rows" in fail(tmp_path / "a.csv")


def test_another_encoding_is_named_with_line_and_byte(fail: Fail, images: Path) -> None:
    (images / "content.md").write_bytes("0.png\tone\n1.png\t发票号码\n".encode("gb18030"))
    message = fail(images / "content.md")
    assert "line 2, byte 17 of the file" in message
    assert "--encoding gb18030" in message


def test_other_files_are_called_what_they_are(fail: Fail, tmp_path: Path) -> None:
    (tmp_path / "content.md").write_bytes(b"PK\x03\x04 ...")
    assert "a ZIP archive" in fail(tmp_path / "content.md")
    (tmp_path / "content.md").write_bytes(bytes(range(256)))
    assert "binary" in fail(tmp_path / "content.md")
    (tmp_path / "a.json").write_text("{}")
    assert ".json" in fail(tmp_path / "a.json")


def test_no_place_to_write(fail: Fail, images: Path, tmp_path: Path) -> None:
    file = labels(images, "0.png one", "1.png two", "2.png three")
    (tmp_path / "taken").write_text("x")
    assert "not a folder" in fail(file, out="taken")
    assert "cannot be written" in fail(file, out="taken/out")
    assert "cannot be written" in fail(file, out="../" * 20 + "proc/out")
    assert "holds no dataset" in fail(file, "--overwrite", out="source")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--splits", "80/30"], "2 parts"),
        (["--splits", "0.5/0.1/0.1"], "0.7"),
        (["--splits", "rest/50/50"], "only 3 in all"),
        (["--group-by", "moon"], "'moon'"),
        (["--group-by", "column:book"], "no columns"),
        (["--layout", "zip"], "zip"),
        (["--prefix", "x"], "--layout prefix"),
        (["--min-side", "0"], "--min-side"),
        (["--limit", "-3"], "--limit"),
        (["--encoding", "klingon"], "klingon"),
        (["--prompt", "Read this"], "<image>"),
        (["--seed", "many"], "seed"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_option_values(fail: Fail, images: Path, options: list[str], words: str) -> None:
    assert words in fail(labels(images, "0.png one", "1.png two", "2.png three"), *options)


def test_with_json_the_error_is_one_object(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = labels(images, "0.png one", "gone.png two")
    assert main(["data", "build", str(file), "-o", str(tmp_path / "out"), "--strict", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["exit_code"] == 2
    assert "gone.png" in error["problem"]


def test_show_needs_a_dataset(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (images, tmp_path / "nothing", images / "0.png"):
        assert main(["data", "show", str(path)]) == 2
        said = capsys.readouterr().err
        assert "ocrsmith data build" in said
        assert str(path) in said


def test_show_refuses_an_unknown_split(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = labels(images, "0.png one", "1.png two", "2.png three")
    assert main(["data", "build", str(file), "-o", str(tmp_path / "out")]) == 0
    assert main(["data", "show", str(tmp_path / "out"), "--split", "moon"]) == 2
    assert "train, val, test" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["{}", '{"_data_files": 3}', '{"_data_files": [{"name": "a.arrow"}]}'])
def test_a_saved_dataset_that_does_not_name_its_files_is_told(tmp_path: Path, state: str) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "dataset_info.json").write_text("{}")
    (saved / "state.json").write_text(state)
    with pytest.raises(DataError, match="does not name its Arrow files") as caught:
        build_dataset([str(saved)], tmp_path / "data")
    assert caught.value.place == str(saved / "state.json")
    assert not (tmp_path / "data").exists()
