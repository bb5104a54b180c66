"""Seconds to score many line pairs on one core, beside jiwer for the figures that it has.

python -m benchmarks.metrics --pairs 100000 --repeats 3
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

import jiwer

from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from ocrsmith.evaluation.metrics.lines import score_lines
from ocrsmith.evaluation.metrics.overlap import sentence_chrfs
from ocrsmith.evaluation.metrics.wer import score_words_all
from ocrsmith.text.normalise import parse_policy

COLUMNS = ("what", "text", "seconds", "slowest", "pairs/s", "× jiwer", "pairs", "characters", "runs")

ALPHABETS = {
    "Latin": "abcdefghijklmnopqrstuvwxyz" * 3 + "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'-éàü" + " " * 20,
    "Chinese": "".join(map(chr, range(0x4E00, 0x4E00 + 3000))) + "，。、（）0123456789" * 12,
    "Persian": "ابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهی" * 3 + "۰۱۲۳۴۵۶۷۸۹\u200c،؟" + " " * 24,
}

Pairs = tuple[list[str], list[str]]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.metrics", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pairs", type=int, default=100_000, help="line pairs")
    add("--length", type=int, default=40, help="characters of a line, on average")
    add("--wrong", type=float, default=0.5, help="share of lines with errors")
    add("--texts", default=",".join(ALPHABETS), help=f"out of {', '.join(ALPHABETS)}")
    add("--repeats", type=int, default=3, help="measurements; the median counts")
    add("--name", default="metrics", help="of the result")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


def make_pairs(text: str, count: int, length: int, wrong: float, *, seed: int = 7) -> Pairs:
    """Lines and readings of them: half as long to half as long again; wrong ones lose, gain or change one to
    four characters."""
    chance = random.Random(f"{seed} {text}")
    letters = ALPHABETS[text]
    true, read = [], []
    for _ in range(count):
        line = chance.choices(letters, k=chance.randint(length // 2, length + length // 2))
        true.append("x" + "".join(line))  # never blank: jiwer refuses such references
        for _ in range(chance.randint(1, 4) if chance.random() < wrong else 0):
            place = chance.randrange(len(line))
            line[place] = chance.choice(("", chance.choice(letters), line[place] + chance.choice(letters)))
        read.append("x" + "".join(line))
    return true, read


def _jiwer(true: list[str], read: list[str]) -> None:
    """What a script around jiwer does: rates of each line."""
    for reference, prediction in zip(true, read, strict=True):
        jiwer.cer(reference, prediction)
        jiwer.wer(reference, prediction)


def _normalise(true: list[str], read: list[str]) -> None:
    policy = parse_policy("nfkc+zh+fa+whitespace")
    policy.apply_all(true)
    policy.apply_all(read)


MEASURED: dict[str, Callable[[list[str], list[str]], Any]] = {
    "CER, WER, distance, exact, chrF": score_lines,
    "WER": score_words_all,
    "chrF": sentence_chrfs,
    "normalisation": _normalise,
    "jiwer CER, WER": _jiwer,
}


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each kind of text and each thing measured; taken in turns."""
    score_lines(["warm"], ["up"])
    rows: list[dict[str, Any]] = []
    for text in options.texts.split(","):
        true, read = make_pairs(text, options.pairs, options.length, options.wrong)
        times: dict[str, list[float]] = {name: [] for name in MEASURED}
        for _ in range(options.repeats):
            for name, function in MEASURED.items():
                start = time.process_time()
                function(true, read)
                times[name].append(time.process_time() - start)
        plain = statistics.median(times["jiwer CER, WER"])
        for name, seconds in times.items():
            middle = statistics.median(seconds)
            rows.append(
                {
                    "what": name,
                    "text": text,
                    "seconds": middle,
                    "slowest": max(seconds),
                    "pairs/s": options.pairs / middle,
                    "× jiwer": plain / middle if name.startswith("CER") else None,
                    "pairs": options.pairs,
                    "characters": sum(map(len, true)) + sum(map(len, read)),
                    "runs": options.repeats,
                }
            )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result."""
    options = parse(arguments)
    rows = measure(options)
    command = ["python", "-m", "benchmarks.metrics", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "metrics",
        "how": "CPU seconds of one process, random lines of each script with errors in a share of them. jiwer: "
        "jiwer.cer and jiwer.wer of each line. × jiwer: all five figures of ours beside jiwer's two. In turns; "
        "medians.",
        "settings": settings_of(options),
        "rows": rows,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name, result, options.results)
    print(table(rows, COLUMNS))
    print(f"\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
