"""The whole check: one pass, the report as JSON and as a page."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ocrsmith.datasets import LengthCheck
from ocrsmith.datasets.check import CheckReport, check_dataset
from ocrsmith.datasets.check.figures import Tally
from ocrsmith.datasets.check.html import number, percent, plot
from ocrsmith.errors import DataError
from ocrsmith.records import PageSample, Prediction

from .conftest import WORDS, draw, encoded, sample

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'single' {{ 7 * 7 }}"


def _samples(count: int, start: int = 0) -> list[PageSample]:
    """Lines that no check complains of."""
    made = []
    for place in range(start, start + count):
        text = " ".join(random.Random(place).sample(" ".join(WORDS).split(), 7))
        made.append(sample(place, encoded(draw(text, 20 + place % 7)), text))
    return made


@pytest.fixture
def clean(dataset: Callable[..., Path]) -> Path:
    return dataset(train=_samples(30), val=_samples(4, 100), test=_samples(4, 200))


def test_a_clean_set_has_no_errors_and_no_warnings(clean: Path) -> None:
    report = check_dataset([clean])
    assert [item for item in report.findings if item.severity != "info"] == []
    assert (report.samples, report.splits) == (38, {"train": 30, "val": 4, "test": 4})
    assert report.modes.measured == 38
    assert report.leaks is not None
    assert not report.leaks.found


def _spoiled() -> dict[str, list[PageSample]]:
    train = _samples(40)
    train[0] = sample(0, train[0].image, "")
    train[1] = sample(1, train[1].image, "x")
    train[2] = sample(2, b"no image", "text")
    train[3] = sample(3, encoded(Image.new("L", (300, 40), 255)), "what is not there")
    train[4] = sample(4, train[4].image, " ".join(WORDS))
    train[5] = sample(5, train[6].image, train[11].text)
    train[7] = sample(7, encoded(draw("harbour dues", 6)), "harbour dues")
    train[8] = sample(8, train[8].image, train[8].text + "\u200b")
    return {"train": train, "test": [sample("leak", train[9].image, train[9].text), *_samples(3, 300)]}


def test_everything_planted_is_found(dataset: Callable[..., Path]) -> None:
    report = check_dataset([dataset(**_spoiled())])
    found = {item.code: item for item in report.findings if item.severity != "info"}
    assert set(found) == {
        *("unreadable_image", "empty_text", "same_image_other_text", "leak_bytes"),
        *("blank_image", "text_too_long", "letters_small_in_image", "zero_width"),
    }
    ids = {code: [example.id for example in item.examples] for code, item in found.items()}
    assert ids["unreadable_image"] == ["s2"]
    assert ids["blank_image"] == ["s3"]
    assert ids["text_too_long"] == ["s4"]
    assert ids["same_image_other_text"] == ["s5", "s6"]
    assert ids["letters_small_in_image"] == ["s7"]
    assert ids["leak_bytes"] == ["sleak"]
    assert [item.severity for item in report.findings] == sorted(
        (item.severity for item in report.findings), key=["error", "warning", "info"].index
    )
    assert any(item.code == "one_character" for item in report.findings)


def test_sets_of_single_characters_are_meant(dataset: Callable[..., Path]) -> None:
    letters = [sample(letter, encoded(draw(letter, 30)), letter) for letter in "ABCDEFGHIJ"]
    report = check_dataset([dataset(train=letters)])
    assert "one_character" not in {item.code for item in report.findings}


def test_tokens_against_the_context(clean: Path) -> None:
    length = LengthCheck(100, lambda width, height, text, prompt: len(text) * 2, "two a character", exact=True)
    report = check_dataset([clean], length=length)
    found = {item.code: item.count for item in report.findings}
    lengths = [2 * len(item.text) for item in (*_samples(30), *_samples(4, 100), *_samples(4, 200))]
    assert found["too_long"] == sum(value > 100 for value in lengths)
    assert found["near_limit"] == sum(90 < value <= 100 for value in lengths)
    assert report.to_json()["length"]["exact"] is True


def test_json_is_complete_and_plain(dataset: Callable[..., Path], tmp_path: Path) -> None:
    report = check_dataset([dataset(**_spoiled())])
    _, path = report.write(tmp_path / "out")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result == json.loads(json.dumps(report.to_json()))
    assert result["format"] == "ocrsmith-check"
    assert "data:image" not in path.read_text(encoding="utf-8")
    assert result["modes"]["recommended"]["95%"] in ("tiny", "small", "base", "large", "gundam")
    assert result["figures"]["train"]["letter_height"]["n"] > 30
    finding = result["findings"][0]
    assert set(finding) == {"code", "severity", "title", "detail", "count", "share", "mend", "examples"}


class _Page(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    VOID = ("meta", "img", "br", "rect", "line", "input", "link")

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _page(report: CheckReport, folder: Path) -> tuple[str, _Page]:
    text = report.write(folder)[0].read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.open == []
    return text, page


def _hostile_set(dataset: Callable[..., Path]) -> Path:
    spoiled = _spoiled()
    spoiled["train"][10] = PageSample(
        id='"><script>alert(3)</script>',
        image=spoiled["train"][6].image,
        image_path="",
        text=HOSTILE + "\ufffd\u202e",
        group="<b>",
        source="<i>",
    )
    return dataset("<svg onload=alert(4)>", **spoiled)


def test_hostile_texts_stay_text(dataset: Callable[..., Path], tmp_path: Path) -> None:
    answers = lambda samples: [  # noqa: E731
        Prediction(item.id, HOSTILE if number else "x", "stop", 0.1, logprob_mean=0.0)
        for number, item in enumerate(samples)
    ]
    report = check_dataset([_hostile_set(dataset)], read=answers)
    text, page = _page(report, tmp_path / "out")
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "i", "form"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    assert "alert(1)" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "\u202e" not in re.sub(r"(?s)<p class=\"sample\".*?</p>|<bdi>.*?</bdi>", "", text)


def test_nothing_is_loaded_from_elsewhere(clean: Path, tmp_path: Path) -> None:
    text, _ = _page(check_dataset([clean]), tmp_path)
    assert "default-src 'none'" in text
    assert not re.search(r"(?:src|href)=.?https?:|url\(|@import", text)


def test_right_to_left_and_chinese_are_set_by_their_own_direction(
    dataset: Callable[..., Path], tmp_path: Path
) -> None:
    texts = ["کتاب‌ها ي", "中文 ｂ", "cafe\u0301 \ufffd"]
    made = [sample(place, encoded(draw(f"text {place}")), text) for place, text in enumerate(texts)]
    _, page = _page(check_dataset([dataset(train=made)]), tmp_path / "out")
    shown = [attributes for tag, attributes in page.tags if attributes.get("class") == "sample"]
    assert shown
    assert all(attributes["dir"] == "auto" for attributes in shown)


def test_the_page_stays_small(dataset: Callable[..., Path], tmp_path: Path) -> None:
    """Every sample has its own faults, and 3,000 different characters are in them."""
    made = []
    for place in range(300):
        text = f"{WORDS[place % 8]} \u200b\ufffd{chr(0xE000 + place)}" + "".join(
            chr(0x4E00 + place * 10 + step) for step in range(10)
        )
        made.append(
            sample(place, encoded(draw(WORDS[0][: 3 + place % 30], 7 + place % 30)), text * (1 + place % 4))
        )
    page, _ = check_dataset([dataset(train=made[:200], test=made[200:])]).write(tmp_path / "out")
    assert page.stat().st_size < 1_000_000


def test_a_source_is_checked_before_it_is_built(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for item in _samples(6):
        (tmp_path / "source" / item.image_path).write_bytes(item.image)
    rows = [f"{item.image_path}\t{item.text}" for item in _samples(6)] + ["gone.png\ttext", "0.png\t"]
    file = tmp_path / "source" / "content.md"
    file.write_text("\n".join(rows), encoding="utf-8")
    report = check_dataset([file])
    assert (report.samples, report.splits, report.leaks) == (6, {}, None)
    assert report.left_out["missing"] == 1
    assert sum(report.left_out.values()) == 2
    assert "gone.png" in " ".join(report.first_left_out)
    page, _ = report.write(tmp_path / "out")
    assert "gone.png" in page.read_text(encoding="utf-8")


def test_prefix_files_and_several_sets_are_taken_as_one(dataset: Callable[..., Path]) -> None:
    one, two = dataset("one", train=_samples(5)), dataset("two", test=_samples(5))
    (one / "train.parquet").rename(one / "my_train.parquet")
    report = check_dataset([one / "my", two])
    assert report.splits == {"train": 5, "test": 5}
    assert "leak_bytes" in {item.code for item in report.findings}


def test_limit_looks_at_the_first_of_each_split(clean: Path) -> None:
    told: list[Any] = []
    report = check_dataset([clean], limit=3, progress=lambda *values: told.append(values))
    assert report.splits == {"train": 3, "val": 3, "test": 3}
    assert told[-1] == ("check", 9, 9)


def test_threads_change_nothing(clean: Path) -> None:
    one, many = check_dataset([clean], workers=1), check_dataset([clean], workers=4)
    assert one.to_json() == many.to_json()


@pytest.mark.parametrize("what", ["nothing", "empty", "damaged", "no such"])
def test_what_cannot_be_checked_is_refused(what: str, tmp_path: Path, dataset: Callable[..., Path]) -> None:
    path = tmp_path / "no such"
    if what == "empty":
        path = dataset(train=[])
    if what == "damaged":
        path = dataset(train=_samples(2))
        (path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError) as caught:
        check_dataset([] if what == "nothing" else [path])
    assert caught.value.mend


def test_figures_are_written_plainly() -> None:
    assert [number(value) for value in (0, 0.123, 12.34, 1234.6)] == ["0", "0.12", "12.3", "1,235"]
    assert [percent(value) for value in (0, 0.0004, 0.9499, 0.95, 1)] == [
        *("0.0 %", "< 0.1 %", "94.9 %", "95.0 %", "100.0 %")
    ]


def test_bars_stay_in_the_drawing() -> None:
    tally = Tally()
    for value in range(500):
        tally.add(value**1.5)
    drawn = plot("x", tally)
    assert drawn is not None
    for bar in drawn.columns:
        assert 0 <= bar.x < bar.x + bar.width <= 320
        assert 0 <= bar.y < bar.y + bar.height <= 84.01


_CHECK = """
import sys
from ocrsmith.datasets.check import check_dataset
report = check_dataset([sys.argv[1]], workers=2)
status = open("/proc/self/status").read().split()
print(report.samples, int(status[status.index("VmHWM:") + 1]) // 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc (Linux)")
def test_memory_does_not_grow_with_the_images(dataset: Callable[..., Path]) -> None:
    """600 MB of images pass; the interpreter with its libraries takes about 130 MB."""
    import pyarrow.parquet as pq

    from ocrsmith.datasets.schema import SCHEMA, to_batch

    image = encoded(draw(WORDS[0])) + bytes(300_000)
    path = dataset(train=[])
    with pq.ParquetWriter(path / "train.parquet", SCHEMA, compression="none") as writer:
        for start in range(0, 2000, 20):
            items = [sample(place, image, f"text {place}") for place in range(start, start + 20)]
            writer.write_batch(to_batch(items))
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    samples, peak = map(int, done.stdout.split())
    assert samples == 2000
    assert peak < 320
