"""Texts, datasets and the planted weakness of `benchmarks.mine`.

Lines are a few words and a code such as `KP-4071`. A weakness is a handful of signs that stand in few codes; it
is planted by training on lines in which they are mislabelled, all else being right.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path

from ocrsmith.datasets import BuildSettings, Dataset, build_dataset, open_dataset
from ocrsmith.datasets.importers.base import Candidate
from ocrsmith.datasets.synth import SynthSettings, synth_source
from ocrsmith.records import Excluded

WRONG = {"Q": "O", "Z": "2", "X": "K", "J": "I", "&": "8", "#": "H"}
"""The weakness: what stands on the page, and what the planted model has learnt to write."""
FONTS = Path(__file__).parents[1] / "tests" / "nano" / "fonts"
_LETTERS = "ABCDEFGHKLMNOPRSTUVWY"
_DIGITS = "23456789"


def is_weak(text: str) -> bool:
    """Whether a sign of the weakness stands in it."""
    return not set(WRONG).isdisjoint(text)


@cache
def words() -> tuple[str, ...]:
    """English words of nano's evaluation texts, without capitals."""
    with (resources.files("ocrsmith.nano") / "eval_texts.tsv").open(encoding="utf-8") as file:
        lines = [row["text"] for row in csv.DictReader(file, delimiter="\t") if row["language"] == "en"]
    return tuple(sorted(set(re.findall(r"\b[a-z]{2,9}\b", " ".join(lines)))))


def write_texts(path: Path, count: int, rare: float, seed: int) -> Path:
    """Writes lines, a share `rare` of them with one sign of the weakness."""
    chance = random.Random(f"texts {seed}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{_line(chance, chance.random() < rare)}\n" for _ in range(count)), "utf-8")
    return path


def _line(chance: random.Random, weak: bool) -> str:
    letters = chance.choices(_LETTERS, k=2)
    if weak:
        letters[chance.randrange(2)] = chance.choice(sorted(WRONG))
    code = f"{''.join(letters)}-{''.join(chance.choices(_DIGITS, k=4))}"
    line = chance.choices(words(), k=chance.randint(1, 3))
    line.insert(chance.randrange(len(line) + 1), code)
    return " ".join(line)


def draw(
    out: Path,
    texts: Path,
    count: int,
    seed: int,
    *,
    mined: Path | None = None,
    keep: Callable[[str], bool] = lambda text: True,
    label: Callable[[str], str] = lambda text: text,
    splits: str = "100/0/0",
) -> Dataset:
    """A dataset of `count` drawn lines, as `ocrsmith data synth` draws them.

    Args:
        mined: a folder that `ocrsmith mine` wrote: its confusions and characters come often.
        keep: which lines are taken, by their text.
        label: what a line is labelled with.
    """
    files = {name: mined / f"{name}.tsv" for name in ("confusions", "characters")} if mined else {}
    there = {name: (path,) for name, path in files.items() if path.is_file()}
    settings = SynthSettings(
        texts=(texts,),
        count=8 * count,
        fonts=(FONTS,),
        looks=("scan",),
        strength=0.3,
        seed=seed,
        confusions=there.get("confusions", ()),
        chars=there.get("characters", ()),
    )
    source = synth_source(settings, workers=1)

    def read() -> Iterator[Candidate | Excluded]:
        lines = (item for item in source.read() if isinstance(item, Candidate) and keep(item.text or ""))
        for item in islice(lines, count):
            # Each line is a document of its own: lines of one text may stand in many.
            yield replace(item, text=label(item.text or ""), group="")

    build_dataset([replace(source, rows=count, read=read)], out, BuildSettings(splits=splits, seed=seed))
    return open_dataset(out)


def mislabel(text: str) -> str:
    """A text as the planted model learns to read it."""
    return text.translate({ord(true): read for true, read in WRONG.items()})


def texts_of(dataset: Dataset) -> Sequence[str]:
    """The texts that are trained on."""
    return [sample.text for sample in dataset.iter_samples("train")]
