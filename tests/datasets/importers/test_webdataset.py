"""WebDataset archives."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets.importers import tar_stream
from ocrsmith.datasets.importers.base import Candidate, ImportOptions
from ocrsmith.datasets.importers.webdataset import FORMAT
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

Entry = tuple[str, bytes] | tarfile.TarInfo


def pack(path: Path, *entries: Entry, mode: str = "w", kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=kind) as archive:  # type: ignore[call-overload]
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                header = tarfile.TarInfo(entry[0])
                header.size = len(entry[1])
                archive.addfile(header, io.BytesIO(entry[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def sample(key: str, text: str = "x") -> tuple[Entry, Entry]:
    return (f"{key}.png", b"image " + key.encode()), (f"{key}.txt", text.encode())


def read(path: Path, **options: Any) -> list[Candidate | Excluded]:
    return list(FORMAT.open(path, ImportOptions(**options)).read())


def good(path: Path, **options: Any) -> list[Candidate]:
    return [item for item in read(path, **options) if isinstance(item, Candidate)]


def until_damage(path: Path) -> tuple[list[Candidate | Excluded], DataError]:
    before: list[Candidate | Excluded] = []
    try:
        for item in FORMAT.open(path, ImportOptions()).read():
            before.append(item)
    except DataError as error:
        return before, error
    pytest.fail("the archive passed for whole")


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_samples_of_images_and_texts(tmp_path: Path, name: str, mode: str, kind: int) -> None:
    text = "one\r\ntwo 三"
    file = pack(tmp_path / name, *sample("d/1", text), *sample("d/2"), mode=mode, kind=kind)
    assert FORMAT.recognises(file, file.read_bytes()[:8192])
    first, second = good(file)
    assert (first.image, first.text, first.image_path) == (b"image d/1", "one\ntwo 三", "d/1.png")
    assert (first.id, first.line, second.line) == (f"{name}#d/1", 1, 2)


def test_json_gives_text_meta_and_names(tmp_path: Path) -> None:
    row = {"text": "x", "id": "i", "group": "g", "prompt": "<image>\nRead.", "lang": "fr"}
    file = pack(tmp_path / "a.tar", ("1.jpg", b"j"), ("1.json", json.dumps(row).encode()))
    (found,) = good(file)
    assert (found.text, found.id, found.group, found.prompt) == ("x", "i", "g", "<image>\nRead.")
    assert found.meta == {"lang": "fr"}


def test_a_text_file_comes_before_the_json(tmp_path: Path) -> None:
    file = pack(
        tmp_path / "a.tar",
        ("1.jpg", b"j"),
        ("1.json", b'{"text": "ocr"}'),
        ("1.gt.txt", b"true"),
        ("1.cls", b"5"),
    )
    (found,) = good(file)
    assert (found.text, found.meta) == ("true", {"text": "ocr"})


def test_named_text_and_group(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.tar", ("1.jpg", b"j"), ("1.json", b'{"words": "w", "label": "l", "book": 3}'))
    (found,) = read(file)
    assert isinstance(found, Excluded)
    assert "'words', 'label' may be the text" in found.detail
    (named,) = good(file, text_column="words", group_column="book")
    assert (named.text, named.group, named.meta) == ("w", "3", {"label": "l"})


def test_a_folder_of_shards_is_read_in_order(tmp_path: Path) -> None:
    pack(tmp_path / "b.tar", *sample("1"))
    pack(tmp_path / "a.tar.gz", *sample("1"), mode="w:gz")
    assert FORMAT.recognises(tmp_path, b"")
    assert [item.id for item in good(tmp_path)] == ["a.tar.gz#1", "b.tar#1"]


def test_members_of_a_sample_must_follow_each_other(tmp_path: Path) -> None:
    file = pack(
        tmp_path / "a.tar", *sample("0"), ("1.png", b"i"), ("2.png", b"i"), ("1.txt", b"x"), ("2.txt", b"x")
    )
    found = read(file)
    assert [type(item) for item in found] == [Candidate, Excluded, Excluded, Excluded, Excluded]
    assert {item.reason for item in found if isinstance(item, Excluded)} == {"empty_text", "missing"}
    assert all("follow each other" in item.detail for item in found if isinstance(item, Excluded))


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (("1.jpg", b"j"), "several_images"),
        (("1.left.png", b"j"), "several_images"),
        (("1.txt", b"again"), "malformed"),
        (("1.json", b"{broken"), "malformed"),
        (("1.json", b"[1]"), "malformed"),
        (("1.json", b'{"a": NaN}'), "malformed"),
        (("1.json", b'{"a": "\\ud800"}'), "malformed"),
        (("1.json", b"[" * 100_000), "malformed"),
    ],
)
def test_odd_samples_go_to_the_ledger(tmp_path: Path, extra: Entry, reason: str) -> None:
    found = read(pack(tmp_path / "a.tar", *sample("0"), *sample("1"), extra, *sample("2")))
    assert [item.reason for item in found if isinstance(item, Excluded)] == [reason]
    assert [item.image_path for item in found if isinstance(item, Candidate)][-1] == "2.png"


def test_text_in_another_encoding(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.tar", *sample("0"), ("1.png", b"i"), ("1.txt", "第一行".encode("gb18030")))
    assert "is not utf-8" in str(read(file)[1])
    assert good(file, encoding="gb18030")[1].text == "第一行"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (("../1.png", b"i"), "outside"),
        (("a/../../1.png", b"i"), "outside"),
        (("..\\1.png", b"i"), "outside"),
        (("/etc/1.png", b"i"), "outside"),
        (special("1.png", tarfile.SYMTYPE, "/etc/passwd"), "malformed"),
        (special("1.png", tarfile.LNKTYPE, "0.png"), "malformed"),
        (special("1.png", tarfile.CHRTYPE), "malformed"),
        (special("1.png", tarfile.FIFOTYPE), "malformed"),
    ],
)
def test_members_that_lead_out_or_are_no_files_go_to_the_ledger(
    tmp_path: Path, entry: Entry, reason: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    found = read(pack(folder / "a.tar", *sample("0"), entry, *sample("2")))
    bad = [item for item in found if isinstance(item, Excluded)]
    assert [(item.reason, "1.png" in item.image_path) for item in bad] == [(reason, True)]
    assert len(found) == 3
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.tar"]


def test_members_too_large_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_stream, "MAX_MEMBER_BYTES", 1000)
    file = pack(tmp_path / "a.tar", *sample("0"), ("1.png", b"i" * 2000), ("1.txt", b"x"), *sample("2"))
    found = read(file)
    assert [item.reason for item in found if isinstance(item, Excluded)] == ["too_large", "missing"]
    assert [item.text for item in found if isinstance(item, Candidate)] == ["x", "x"]


@pytest.mark.parametrize("keep", [0.5, 0.75, 0.9])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_cut_archive_gives_what_comes_before_and_says_where_it_ends(
    tmp_path: Path, name: str, keep: float
) -> None:
    entries = [entry for number in range(200) for entry in sample(f"{number:03d}")]
    file = pack(tmp_path / name, *entries, mode="w:gz" if name.endswith("gz") else "w")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
    before, error = until_damage(file)
    assert 50 < len(before) < 200
    assert "cut off or damaged after the member '" in error.problem
    assert (error.place, error.mend) == (str(file), "Copy, download or pack it again.")


def test_cut_between_two_members_is_noticed(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.tar", *sample("0"), *sample("1"))
    file.write_bytes(file.read_bytes()[: 4 * 1024])
    before, error = until_damage(file)
    assert "'1.txt'" in error.problem
    assert len(before) == 1  # the last sample might have had more members


def test_a_damaged_header_is_noticed(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.tar", *sample("0"), *sample("1"), *sample("2"), kind=tarfile.USTAR_FORMAT)
    data = bytearray(file.read_bytes())
    data[2 * 1024 + 10] ^= 0xFF
    file.write_bytes(bytes(data))
    before, error = until_damage(file)
    assert "after the member '0.txt'" in error.problem
    assert not before


def test_a_wrong_sum_of_gzip_is_noticed(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.tar.gz", *sample("0"), mode="w:gz")
    data = bytearray(file.read_bytes())
    data[-8] ^= 0xFF
    file.write_bytes(bytes(data))
    assert "damaged" in until_damage(file)[1].problem


def test_a_second_archive_behind_the_first_is_noticed(tmp_path: Path) -> None:
    one, two = pack(tmp_path / "1.tar", *sample("0")), pack(tmp_path / "2.tar", *sample("1"))
    (tmp_path / "a.tar").write_bytes(one.read_bytes() + two.read_bytes())
    rest, first = read(tmp_path / "a.tar")
    assert isinstance(first, Candidate)
    assert isinstance(rest, Excluded)
    assert "was not read" in rest.detail


def test_a_huge_header_is_not_read_into_memory(tmp_path: Path) -> None:
    """A long name of 300 MB of zeros, which gzip makes small."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 300 << 20
    file = pack(tmp_path / "a.tar", *sample("0"))
    whole = file.read_bytes()[:2048]
    with gzip.open(tmp_path / "b.tar.gz", "wb", compresslevel=1) as stream:
        stream.write(whole + header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(8):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    _, error = until_damage(tmp_path / "b.tar.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "a header of" in error.problem
    assert peak < 8 << 20


def test_sizes_below_zero_are_damage(tmp_path: Path) -> None:
    header = tarfile.TarInfo("1.png")
    header.size = -512
    file = pack(tmp_path / "a.tar", *sample("0"))
    buffer = header.tobuf(tarfile.GNU_FORMAT)
    file.write_bytes(file.read_bytes()[:2048] + buffer + bytes(10240))
    assert "cut off or damaged" in until_damage(file)[1].problem


def test_names_that_are_no_unicode_can_be_stored(tmp_path: Path) -> None:
    name = b"\xff".decode("utf-8", "surrogateescape")
    file = pack(
        tmp_path / "a.tar", *sample("0"), (f"{name}.png", b"i"), (f"{name}.txt", b"x"), kind=tarfile.GNU_FORMAT
    )
    assert [item.id for item in good(file)] == ["a.tar#0", "a.tar#\\xff"]


def test_headers_are_not_kept(tmp_path: Path) -> None:
    file = pack(tmp_path / "a.tar", *(entry for number in range(4000) for entry in sample(f"{number:06d}")))
    source = FORMAT.open(file, ImportOptions())
    tracemalloc.start()
    count = sum(1 for _ in source.read())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000
    assert peak < 4 << 20


def test_recognition_and_refusal(tmp_path: Path) -> None:
    other = pack(tmp_path / "other.tar", ("readme.txt", b"x"), ("code.py", b"x"))
    assert not FORMAT.recognises(other, other.read_bytes()[:8192])
    with pytest.raises(DataError, match="no image with a text"):
        FORMAT.open(other, ImportOptions())
    (tmp_path / "bad.tar").write_bytes(b"no archive" * 100)
    assert not FORMAT.recognises(tmp_path / "bad.tar", b"no archive")
    with pytest.raises(DataError, match="damaged at its beginning"):
        FORMAT.open(tmp_path / "bad.tar", ImportOptions())
    (tmp_path / "empty").mkdir()
    assert not FORMAT.recognises(tmp_path / "empty", b"")
    with pytest.raises(DataError, match="no tar archives"):
        FORMAT.open(tmp_path / "empty", ImportOptions())
