"""Import → export → import gives the same samples, as far as the format has a place for what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocrsmith.datasets import open_dataset
from ocrsmith.datasets.checks import ESTIMATED_LENGTH, Checked, examine_all
from ocrsmith.datasets.exporters import export_dataset
from ocrsmith.datasets.importers import Format, ImportOptions, content, conversations, paddle, parquet
from ocrsmith.records import SPLITS, PageSample, SplitName
from ocrsmith.text import FREE_OCR

Samples = Mapping[SplitName, Sequence[PageSample]]

PROMPTS = (None, FREE_OCR, "<image>\nRead the 表格 here.", "Before\n<image>\tafter")


def texts() -> st.SearchStrategy[str]:
    """What a build lets pass: not empty, without white space around it."""
    hard = st.sampled_from(
        [r"\n", "\\", "a\tb", "a\nb", "\\\n", "#x", "1,2\"3'", "\ufeffa", "a\r\nb", "\u2028|"]
    )
    parts = st.lists(st.text(max_size=12) | hard, min_size=1, max_size=4)
    return parts.map(lambda found: "x".join(found).strip()).filter(lambda text: text and "<image>" not in text)


@st.composite
def samples(draw: st.DrawFn, images: Sequence[bytes]) -> Samples:
    found: dict[SplitName, list[PageSample]] = {split: [] for split in SPLITS}
    ids = draw(st.lists(st.text(min_size=1, max_size=12), max_size=6, unique=True))
    for number, sample_id in enumerate(ids or ["a"]):
        sample = PageSample(
            id=sample_id.strip() or str(number),
            image=images[number % len(images)],
            image_path=f"{number}.png",
            text=draw(texts()),
            group=draw(st.sampled_from(["", "doc 1", "书"])),
            source="somewhere",
            prompt=draw(st.sampled_from(PROMPTS)),
            meta=draw(st.sampled_from([{}, {"language": "fa", "box": [1, 2.5]}])),
        )
        found[draw(st.sampled_from(SPLITS))].append(sample)
    return found


def in_order(found: Samples) -> list[PageSample]:
    return [sample for split in SPLITS for sample in found[split]]


def imported(kind: Format, path: Path, options: ImportOptions | None = None) -> list[Checked]:
    """What an importer and the checks make of a file or folder; nothing may be left out."""
    items = list(
        examine_all(kind.open(path, options or ImportOptions()).read(), min_side=1, length=ESTIMATED_LENGTH)
    )
    assert all(isinstance(item, Checked) for item in items), items
    return items  # type: ignore[return-value]


@pytest.fixture(scope="module")
def images(png: Any) -> list[bytes]:
    kinds = ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"]
    return [png(shade=number, kind=kind) for number, kind in enumerate(kinds)]


@pytest.fixture
def around(make_dataset: Any, images: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Draws samples, writes them and exports them; gives the samples, the export's folder and its summary."""

    def go(data: st.DataObject, format: str) -> tuple[Samples, Path, Any]:
        folder = tmp_path_factory.mktemp("around")
        found = data.draw(samples(images))
        dataset = make_dataset(folder / "in", found)
        return found, folder / "out", export_dataset(dataset, folder / "out", format)

    return go


property_test = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@property_test
@given(data=st.data())
def test_content_keeps_images_and_texts_in_their_order(around: Any, data: st.DataObject) -> None:
    found, out, summary = around(data, "content")
    kept = [sample for sample in in_order(found) if "\0" not in sample.text]
    assert summary.excluded == ({"malformed": n} if (n := len(in_order(found)) - len(kept)) else {})
    escapes = any("--escapes" in note for note in summary.notes)
    assert escapes == any("\n" in sample.text for sample in in_order(found))
    if kept:
        again = imported(content.FORMAT, out / "content.md", ImportOptions(escapes=escapes or None))
        assert [(item.image, item.text) for item in again] == [(sample.image, sample.text) for sample in kept]


@property_test
@given(data=st.data())
def test_paddle_keeps_images_and_texts_of_one_line(around: Any, data: st.DataObject) -> None:
    found, out, summary = around(data, "paddle")
    for split in SPLITS:
        kept = [sample for sample in found[split] if not set(sample.text) & set("\t\n\r\0")]
        assert summary.counts[split] == len(kept)
        if kept:
            again = imported(paddle.REC_FORMAT, out / f"rec_gt_{split}.txt")
            assert [(item.image, item.text) for item in again] == [
                (sample.image, sample.text) for sample in kept
            ]
    assert sum(summary.excluded.values()) == len(in_order(found)) - summary.samples


@property_test
@given(data=st.data())
def test_sharegpt_keeps_ids_groups_and_prompts_too(around: Any, data: st.DataObject) -> None:
    found, out, summary = around(data, "sharegpt")
    assert not summary.excluded
    for split in SPLITS:
        if not found[split]:
            assert not (out / f"{split}.jsonl").exists()
            continue
        again = imported(conversations.FORMAT, out / f"{split}.jsonl")
        for item, sample in zip(again, found[split], strict=True):
            candidate = item.candidate
            assert (item.image, item.text) == (sample.image, sample.text)
            assert (candidate.id, candidate.group) == (sample.id, sample.group)
            assert candidate.prompt == (sample.prompt or FREE_OCR)


@property_test
@given(data=st.data(), format=st.sampled_from(["folder", "prefix"]))
def test_our_own_formats_keep_everything(around: Any, data: st.DataObject, format: str) -> None:
    found, out, summary = around(data, format)
    assert not summary.excluded
    assert not summary.notes
    opened = open_dataset(out)
    for split in SPLITS:
        assert list(opened.iter_samples(split)) == found[split]
    assert opened.manifest is not None
    assert opened.compute_content_hash() == opened.content_hash
    again = imported(parquet.DATASET_FORMAT, out)
    expected = {
        (sample.id, sample.image, sample.text, sample.group, sample.prompt) for sample in in_order(found)
    }
    assert expected == {
        (item.candidate.id, item.image, item.text, item.candidate.group, item.candidate.prompt)
        for item in again
    }
