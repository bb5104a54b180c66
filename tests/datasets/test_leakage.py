"""Every kind of leak that is planted is found, and an honest split has none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.datasets import BuildSettings, Dataset, build_dataset, open_dataset
from ocrsmith.datasets.leakage import LeakReport, find_leaks
from ocrsmith.datasets.schema import to_batch
from ocrsmith.images import open_image
from ocrsmith.records import SPLITS, PageSample

_WORDS = (
    "harbour council surveyor minutes reported spring letter captain vessel merchant tariff winter bridge",
    "orchard parish register tenant widow carriage lantern barrel timber quarry market sailor ledger",
)
WORDS = " ".join(_WORDS).split()


def text_of(number: int, length: int = 6) -> str:
    return " ".join(WORDS[(number * 7 + step * (number % 5 + 3)) % len(WORDS)] for step in range(length))


def picture(text: str, size: int = 22, paper: tuple[int, int, int] = (240, 236, 220)) -> Image.Image:
    image = Image.new("RGB", (640, 60), paper)
    ImageDraw.Draw(image).text((10, 15), text, fill=(30, 30, 50), font=ImageFont.load_default(size))
    return image


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def sample(number: int, *, group: str = "", text: str = "", image: bytes = b"", name: str = "") -> PageSample:
    text = text or f"{text_of(number)} {number * 37}"
    return PageSample(
        id=name or f"s{number}",
        image=image or encode(picture(text)),
        image_path="",
        text=text,
        group=group,
        source="planted",
    )


Splits = dict[str, list[PageSample]]


def write(folder: Path, splits: Splits) -> Dataset:
    """A dataset as another program might have written it: no checks, no manifest."""
    folder.mkdir()
    for name in SPLITS:
        pq.write_table(pa_table(splits.get(name, [])), folder / f"{name}-00000-of-00001.parquet")
    return open_dataset(folder)


def pa_table(samples: list[PageSample]) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([to_batch(samples)])


@pytest.fixture
def honest() -> Splits:
    numbers = {"train": range(30), "val": range(30, 36), "test": range(36, 44)}
    return {
        name: [sample(number, group=f"d{number // 2}") for number in part] for name, part in numbers.items()
    }


def test_an_honest_dataset_has_no_leak(honest: Splits, tmp_path: Path) -> None:
    report = find_leaks(write(tmp_path / "d", honest))
    assert not report.found
    assert report.sides == {"train": 30, "val": 6, "test": 8}
    assert report.affected == {"val": 0, "test": 0}
    assert report.report_lines()[0].startswith("No leak")


def recompressed(known: PageSample) -> PageSample:
    return sample(0, name="copy", text=known.text, image=encode(open_image(known.image), "JPEG", quality=40))


def rescaled(known: PageSample) -> PageSample:
    image = open_image(known.image)
    small = image.resize((image.width * 4 // 5, image.height * 4 // 5), Image.Resampling.BICUBIC)
    return sample(0, name="copy", text=known.text, image=encode(small))


def mended(known: PageSample) -> PageSample:
    """Recompressed, and one letter of the label is another."""
    return sample(
        0,
        name="copy",
        text=known.text.replace("e", "o", 1),
        image=encode(open_image(known.image), "JPEG", quality=70),
    )


def rescanned(known: PageSample) -> PageSample:
    """Other type on other paper, the same long text."""
    image = Image.new("RGB", (300, 400), (200, 200, 190))
    font = ImageFont.load_default(12)
    for row, word in enumerate(known.text.split()):
        ImageDraw.Draw(image).text((20 + row % 2 * 120, 20 + row * 25), word, fill="black", font=font)
    return sample(0, name="copy", text=known.text, image=encode(image))


PLANTS: dict[str, tuple[str, Callable[[PageSample], PageSample]]] = {
    "the same file": ("bytes", lambda known: sample(0, name="copy", text=known.text, image=known.image)),
    "the same file, another text": ("bytes", lambda known: sample(0, name="copy", text="x", image=known.image)),
    "saved otherwise": (
        "pixels",
        lambda known: sample(0, name="copy", text=known.text, image=encode(open_image(known.image), "BMP")),
    ),
    "recompressed": ("near", recompressed),
    "rescaled": ("near", rescaled),
    "recompressed, label mended": ("near", mended),
    "scanned again": ("text", rescanned),
    "the same document": ("document", lambda known: sample(99, name="copy", group=known.group)),
}


@pytest.mark.parametrize("plant", PLANTS, ids=PLANTS)
@pytest.mark.parametrize(("known", "tested"), [("train", "test"), ("train", "val"), ("val", "test")])
def test_a_planted_leak_is_found(honest: Splits, tmp_path: Path, plant: str, known: str, tested: str) -> None:
    kind, make = PLANTS[plant]
    origin = sample(77, group="planted", text=text_of(3, 12))
    honest[known].insert(3, origin)
    honest[tested].append(make(origin))
    report = find_leaks(write(tmp_path / "d", honest))
    found = [(leak.kind, leak.known, leak.tested, leak.count, leak.examples) for leak in report.leaks]
    assert found == [(kind, known, tested, 1, (("s77", "copy"),))]
    assert report.affected[tested] == 1
    assert "e.g." in report.report_lines()[1]
    assert "copy  ←  s77" in report.report_lines()[2]


def test_shares_and_json(honest: Splits, tmp_path: Path) -> None:
    copies = [
        replace(honest["train"][number], id=f"copy{number}", group="new", text="x") for number in range(2)
    ]
    honest["test"] += copies
    report = find_leaks(write(tmp_path / "d", honest))
    result = json.loads(json.dumps(report.to_json()))
    assert result["found"]
    assert result["affected"]["test"] == {"samples": 2, "share": 0.2}
    assert [leak["kind"] for leak in result["leaks"]] == ["bytes"]
    assert result["leaks"][0]["share"] == 0.2
    assert "In all, 2 of 10 samples of test (20.0%)." in report.report_lines()


def test_another_dataset_counts_whatever_its_splits(honest: Splits, tmp_path: Path) -> None:
    exam = {"train": [honest["train"][4], sample(500), recompressed(honest["test"][1])]}
    first, second = write(tmp_path / "exam", exam), write(tmp_path / "d", honest)
    assert not find_leaks(first).found
    report = find_leaks(first, second)
    found = {(leak.kind, leak.known, leak.tested): leak.count for leak in report.leaks}
    assert found == {
        ("document", f"{second.path}: train", "train"): 1,
        ("bytes", f"{second.path}: train", "train"): 1,
        ("near", f"{second.path}: test", "train"): 1,
    }
    assert report.affected == {"train": 2}
    assert report.against == str(second.path)


def test_documents_of_another_dataset_are_the_same_only_with_the_same_source(tmp_path: Path) -> None:
    here = write(tmp_path / "a", {"train": [sample(1, group="1")]})
    other = PageSample("x", encode(picture("other")), "", "other", group="1", source="elsewhere")
    there = write(tmp_path / "b", {"train": [other]})
    assert not find_leaks(here, there).found


def test_letterheads_are_told_and_no_leak(tmp_path: Path) -> None:
    head = encode(picture("REPUBLIC OF LETTERS"))

    def document(number: int) -> list[PageSample]:
        one = sample(number, group=f"d{number}")
        return [sample(0, name=f"h{number}", text="REPUBLIC OF LETTERS", image=head, group=f"d{number}"), one]

    splits = {
        "train": [item for number in range(12) for item in document(number)],
        "test": [item for number in range(12, 15) for item in document(number)],
    }
    report = find_leaks(write(tmp_path / "d", splits))
    assert not report.found
    assert report.repeated == {"train": 12, "test": 3}
    assert any("3 samples of test that recur" in line for line in report.report_lines())


def test_images_that_cannot_be_decoded_are_compared_by_their_bytes(honest: Splits, tmp_path: Path) -> None:
    honest["train"].append(sample(1, name="broken", text="one", image=b"no image"))
    honest["test"].append(sample(1, name="copy", text="two", image=b"no image"))
    report = find_leaks(write(tmp_path / "d", honest))
    assert [(leak.kind, leak.count) for leak in report.leaks] == [("bytes", 1)]
    assert report.unreadable == 2


def build(source: Path, out: Path, **settings: Any) -> LeakReport:
    build_dataset([source], out, BuildSettings(**settings))
    return find_leaks(open_dataset(out))


def test_what_build_makes_of_copies_has_no_leak(tmp_path: Path) -> None:
    """60 lines, each with a recompressed copy, a scan of a long text, and the same file twice."""
    lines = []
    for number in range(60):
        text = f"{text_of(number, 12)} {number * 37}"
        image = picture(text)
        (tmp_path / f"{number}.png").write_bytes(encode(image))
        (tmp_path / f"copy {number}.jpg").write_bytes(encode(image, "JPEG", quality=50))
        (tmp_path / f"scan {number}.png").write_bytes(rescanned(sample(number, text=text)).image)
        lines += [f"{name}\t{text}" for name in (f"{number}.png", f"copy {number}.jpg", f"scan {number}.png")]
    source = tmp_path / "content.md"
    source.write_text("\n".join(lines), encoding="utf-8")
    report = build(source, tmp_path / "out")
    assert not report.found
    assert sum(report.sides.values()) == 180
    assert all(report.sides.values())


@pytest.mark.parametrize("name", ["tapus_alto", "pdx_zh", "cnocr_zh"])
def test_honest_builds_of_real_data_have_no_leak(shared: Path, tmp_path: Path, name: str) -> None:
    labels = shared / "data" / name / "labels.tsv"
    if not labels.is_file():
        pytest.skip(f"needs ../shared/data/{name} (real lines), which is not here")
    report = build(labels, tmp_path / "out", splits="60/20/20")
    assert not report.found
    if name == "pdx_zh":  # one texture under all lines must not make one document of them
        assert all(count > 20 for count in report.sides.values())
