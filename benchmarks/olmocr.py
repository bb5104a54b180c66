"""olmOCR's checks on the Markdown made of PDFs, beside the plain text of pdfplumber and pypdfium2.

python -m benchmarks.olmocr --data ../shared/data/olmocr_bench
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

import pdfplumber
import pypdfium2
from rapidfuzz.distance import Levenshtein

from benchmarks.olmocr_checks import Check, normalise, passes
from benchmarks.report import REPOSITORY, RESULTS, circumstances, settings_of, table, write_result
from ocrsmith.datasets.pdf.markdown import to_markdown
from ocrsmith.datasets.pdf.page import read_page
from ocrsmith.errors import DataError

COLUMNS = ("of", "checks", "ours", "pdfplumber", "pypdfium2")
READERS = COLUMNS[2:]
KINDS = ("present", "absent", "order", "table", "math", "baseline")


@dataclass(frozen=True, slots=True)
class PageTexts:
    """A page as each reader gives it, and what text layer it has: `text`, `hidden` (behind a scan), `none`."""

    texts: dict[str, str]
    layer: str


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.olmocr", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--data", type=Path, default=REPOSITORY.parent / "shared/data/olmocr_bench", help="folder of the checks"
    )
    add("--texts", type=Path, help="folder to write our Markdown to, to look at")
    add("--name", default="olmocr", help="of the result")
    add("--note", default="", help="what else one must know")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


def read_checks(path: Path) -> list[Check]:
    """The checks of a file.

    Raises:
        DataError: there is none, or it cannot be parsed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(
            f"The checks cannot be read: {error}.", place=str(path), mend="give olmOCR's folder with --data"
        ) from error


def read_texts(path: Path, number: int) -> PageTexts:
    """What the readers make of a page, counted from 1."""
    with pdfplumber.open(path) as document:
        plumber = document.pages[number - 1]
        page = read_page(plumber)
        texts = {"ours": to_markdown(page), "pdfplumber": plumber.extract_text() or ""}
    pdfium = pypdfium2.PdfDocument(path)
    texts["pypdfium2"] = pdfium[number - 1].get_textpage().get_text_bounded()
    pdfium.close()
    letters = [char for char in page.chars if not char.text.isspace()]
    layer = "none" if not letters else "hidden" if all(char.hidden for char in letters) else "text"
    return PageTexts(texts, layer)


def run(folder: Path) -> tuple[list[dict[str, Any]], list[str], dict[tuple[str, int], PageTexts]]:
    """Outcomes of the checks, the files that are not there, and the texts."""
    pages: dict[tuple[str, int], PageTexts] = {}
    outcomes, missing = [], []
    for check in [*read_checks(folder / "dataset.jsonl"), *read_checks(folder / "blanks.jsonl")]:
        path = folder / "pdfs" / check["pdf"]
        if not path.is_file():
            missing.append(check["pdf"])
            continue
        key = (check["pdf"], check["page"])
        if key not in pages:
            pages[key] = read_texts(path, check["page"])
        passed = {reader: passes(check, pages[key].texts[reader]) for reader in READERS}
        shown = {name: check[name] for name in ("id", "pdf", "page", "type")}
        outcomes.append({**shown, "layer": pages[key].layer, "passed": passed})
    return outcomes, missing, pages


def rates(outcomes: Iterable[dict[str, Any]], of: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    """Share of checks passed, for each value of `of`."""
    groups: dict[str, list[dict[str, bool]]] = defaultdict(list)
    for outcome in outcomes:
        groups[of(outcome)].append(outcome["passed"])
    return [
        {
            "of": name,
            "checks": len(group),
            **{reader: sum(passed[reader] for passed in group) / len(group) for reader in READERS},
        }
        for name, group in groups.items()
    ]


def all_rates(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rates of everything, of pages by their text layer, by kind of check, by file."""
    layered = [outcome for outcome in outcomes if outcome["layer"] == "text"]
    without = [outcome for outcome in layered if outcome["type"] != "math"]
    kinds = sorted(layered, key=lambda outcome: KINDS.index(outcome["type"]))
    return [
        *rates(outcomes, lambda _: "all pages"),
        *rates(layered, lambda _: "pages with visible text"),
        *rates(without, lambda _: "… formulas left out"),
        *rates([o for o in outcomes if o["layer"] == "hidden"], lambda _: "scans with hidden text"),
        *rates([o for o in outcomes if o["layer"] == "none"], lambda _: "scans without text"),
        *rates(kinds, lambda outcome: f"visible text: {outcome['type']}"),
        *rates(outcomes, lambda outcome: str(outcome["pdf"])),
    ]


def distances(folder: Path) -> list[dict[str, Any]]:
    """Edit distance to the Markdown that people wrote for some PDFs, markup left out, per letter."""
    rows = []
    for path in sorted(folder.glob("md_pairs/*/*.pdf")):
        written = path.with_suffix(".md").read_text(encoding="utf-8")
        wanted = _bare(re.sub(r"^---\n.*?\n---\n?", "", written, flags=re.DOTALL))
        texts = read_texts(path, 1).texts
        found = {reader: Levenshtein.normalized_distance(_bare(texts[reader]), wanted) for reader in READERS}
        rows.append({"of": path.name, "letters": len(wanted), **found})
    return rows


def _bare(text: str) -> str:
    """Text without tags and marks of headings."""
    return normalise(re.sub(r"<[^>]+>|^#+ |^\|?[-| ]+\|$", " ", text, flags=re.MULTILINE))


def main(arguments: list[str] | None = None) -> int:
    """Runs the checks, prints tables, writes the result."""
    options = parse(arguments)
    outcomes, missing, pages = run(options.data)
    rows, apart = all_rates(outcomes), distances(options.data)
    if options.texts:
        options.texts.mkdir(parents=True, exist_ok=True)
        for (name, number), page in pages.items():
            path = options.texts / f"{Path(name).stem}_{number}.md"
            path.write_text(page.texts["ours"] + "\n", encoding="utf-8")
    command = ["python", "-m", "benchmarks.olmocr", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "olmocr",
        "how": "Share of olmOCR's checks passed by the text of each page: ours (Markdown by layout, no trust "
        "score applied), pdfplumber's extract_text(), pypdfium2's get_text_bounded(). Checks written anew from "
        "their documented meaning. Distance: edits per letter to Markdown written by people, markup left out. "
        "These pages were looked at while the layout was written: no held-out figure.",
        "settings": {**settings_of(options), "data": options.data.name, "texts": None},
        "rows": rows,
        "distances": apart,
        "checks": outcomes,
        "missing": sorted(missing),
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name, result, options.results)
    print(table(rows, COLUMNS))
    print("\nEdit distance per letter to Markdown written by people:\n")
    print(table(apart, ("of", "letters", *READERS)))
    print(f"\n{len(missing)} checks are of PDFs that are not there.\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
