"""Memory and speed of reading long PDFs: `ocrsmith ocr`'s way beside drawing all pages first.

    python -m benchmarks.reading                              # 300 and 3,000 pages, no model
    python -m benchmarks.reading --formats md,json,pdf        # searchable PDFs too
    python -m benchmarks.reading --engine native --pages 20   # nano reads, on the CPU

PDFs of A4 pages, half of them text and half of them pictures of scanned paper, are drawn at 144 dpi. With
`--engine canned` the same answer of 45 lines stands for every page at once: what is measured is the pipeline
around a model (drawing, queueing, journal, outputs), not a model. The naive way draws all pages with pypdfium2
into a list, packs each as PNG and writes a text file of the same answers. Each run is a process of its own; its
peak is the resident memory of the process and its children, added up: what they share counts twice.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.process_peak import run
from benchmarks.report import REPOSITORY, RESULTS, circumstances, settings_of, table, write_result
from ocrsmith.engines.base import PageRequest, ReadProgress
from ocrsmith.errors import SettingsError
from ocrsmith.records import Prediction

COLUMNS = ("way", "pages", "seconds", "pages/s", "peak MB", "main process MB", "PDF MB", "output MB")
TARGET_MB = 100.0
"""That the peak may grow by from the fewest pages to the most."""
DPI = 144
_A4 = (595.28, 841.89)
_LINES, _WORDS = 45, ("paper", "ledger", "of", "the", "harbour", "1897", "carried", "forward", "and", "signed")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.reading", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pages", default="300,3000", help="pages of each PDF")
    add("--naive-pages", type=int, default=150, help="pages that are drawn the naive way; 0: none")
    add("--engine", choices=("canned", "native"), default="canned", help="native: nano, on the CPU")
    add("--formats", default="md,json", help="as for `ocrsmith ocr --format`")
    add("--folder", type=Path, help="for PDFs and outputs (else the system's temporary folder)")
    add("--name", default="reading-memory-cpu", help="of the result")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    add("--do", nargs=3, metavar=("WAY", "PDF", "OUT"), help=argparse.SUPPRESS)  # in a process of its own
    return parser.parse_args(arguments)


def text_of(page: int) -> list[str]:
    """The lines of a page; no two pages have the same."""
    return [
        " ".join([f"{page}.{line}", *(_WORDS[(page * 7 + line * 3 + word * word) % 10] for word in range(11))])
        for line in range(_LINES)
    ]


def write_pdf(path: Path, pages: int) -> Path:
    """A PDF of A4 pages, typed and scanned in turn; the same bytes every time."""
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), pagesize=_A4, invariant=1)
    papers = [ImageReader(BytesIO(_paper(seed))) for seed in range(4)]
    for page in range(pages):
        if page % 2:
            canvas.drawImage(papers[page // 2 % len(papers)], 0, 0, *_A4)
        canvas.setFont("Times-Roman", 11)
        for line, text in enumerate(text_of(page)):
            canvas.drawString(60, 780 - 16 * line, text)
        canvas.showPage()
    canvas.save()
    return path


def _paper(seed: int) -> bytes:
    """Grey paper with the grain of a scan, 144 dpi, as JPEG."""
    import numpy as np
    from PIL import Image

    grain = np.random.default_rng(seed).normal(236, 4, (1684, 1190))
    stream = BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


class Canned:
    """An engine that has the same answer for every page, with the probabilities of its tokens."""

    name = "canned"

    def __init__(self) -> None:
        self.text = "\n".join(text_of(0))
        self.ends = tuple(range(4, len(self.text) + 1, 4))

    def describe(self) -> dict[str, Any]:
        """No model."""
        return {"model": "none: one answer for all pages"}

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """Answers at once."""
        for request in requests:
            yield Prediction(
                request.id,
                self.text,
                "stop",
                seconds=0.0,
                tokens=len(self.ends),
                logprob_mean=-0.02,
                token_ends=self.ends,
                token_logprobs=(-0.02,) * len(self.ends),
            )


def read_ours(engine: str, pdf: Path, out: Path, formats: Sequence[str]) -> None:
    """Reads a PDF into a folder as the command `ocrsmith ocr` does."""
    from ocrsmith.reading.inputs import find_inputs
    from ocrsmith.reading.job import Job, Run
    from ocrsmith.reading.pdf import PageRange, PdfOptions
    from ocrsmith.reading.sources import Opener

    if engine == "native":
        from ocrsmith.cli.options import keep_memory
        from ocrsmith.engines.native import NativeEngine

        keep_memory("cpu")
        reader: Any = NativeEngine.load("nano", device="cpu")
    else:
        reader = Canned()
    with Opener(PdfOptions(dpi=DPI)) as opener:
        files = find_inputs([pdf], out=out).files
        job = Job(files, [opener.inspect(pdf, PageRange.parse(None))], out, formats)
        job.check()
        outcome = Run(job, reader, opener).read()
    if outcome.failed:
        raise SystemExit(f"{len(outcome.failed)} pages failed: {outcome.failed[0]}")


def read_naively(pdf: Path, out: Path) -> None:
    """All pages into a list, then one after another as PNG to the engine."""
    import pypdfium2

    engine = Canned()
    with pypdfium2.PdfDocument(pdf) as document:
        images = [page.render(scale=DPI / 72).to_pil().convert("RGB") for page in document]
    texts = []
    for number, image in enumerate(images):
        stream = BytesIO()
        image.save(stream, "PNG", compress_level=1)
        texts += [one.text for one in engine.read([PageRequest(str(number), stream.getvalue())])]
    out.mkdir()
    (out / "book.txt").write_text("\f".join(texts), encoding="utf-8")


def do(way: str, pdf: Path, out: Path, options: argparse.Namespace) -> int:
    """One run, in this process; leaves the most memory that it held alone beside the outputs."""
    if way == "naive":
        read_naively(pdf, out)
    else:
        read_ours(options.engine, pdf, out, options.formats.split(","))
    status = Path("/proc/self/status").read_text().split()
    (out / "peak").write_text(status[status.index("VmHWM:") + 1])
    return 0


def measure(way: str, pages: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A run in a process of its own; gives its row.

    Raises:
        SettingsError: it failed.
    """
    pdf = write_pdf(folder / "book.pdf", pages)
    out = folder / f"{way}-{pages}"
    words = [sys.executable, "-m", "benchmarks.reading", "--engine", options.engine]
    words += ["--formats", options.formats, "--do", way, str(pdf), str(out)]
    done = run(words, cwd=REPOSITORY, log=folder / "log")
    if done.code:
        raise SettingsError(f"The run on {pages} pages failed: {done.errors}", place=way, mend="See above.")
    own = int((out / "peak").read_text()) * 1024
    size = sum(path.stat().st_size for path in out.iterdir() if path.suffix == ".pdf")
    whole = sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and path.suffix != ".pdf")
    print(f"{way}, {pages} pages: {done.seconds:.0f} s, {done.peak_bytes / 1e6:,.0f} MB", file=sys.stderr)
    return {
        "way": way,
        "pages": pages,
        "seconds": done.seconds,
        "pages/s": pages / done.seconds,
        "peak MB": done.peak_bytes / 1e6,
        "main process MB": own / 1e6,
        "PDF MB": size / 1e6 if size else None,
        "output MB": whole / 1e6,
    }


def conclude(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How the peak grows with the pages, and what the naive way would hold for as many."""
    ours = sorted((row for row in rows if row["way"] == "ocrsmith"), key=lambda row: row["pages"])
    naive = [row for row in rows if row["way"] == "naive"]
    told: dict[str, Any] = {}
    if len(ours) > 1:
        grown = ours[-1]["peak MB"] - ours[0]["peak MB"]
        told |= {"grown_mb": grown, "target_mb": TARGET_MB, "reached": grown <= TARGET_MB}
    if naive and ours:
        a_page = _A4[0] * _A4[1] * (DPI / 72) ** 2 * 3 / 1e6
        told |= {"naive_mb_for_most": a_page * ours[-1]["pages"]}
    return told


def _without_folders(given: Sequence[str]) -> list[str]:
    """The command line without folders of this machine."""
    names = ("--results", "--folder")
    return [
        word
        for before, word in zip(["", *given], given, strict=False)
        if before not in names and not word.startswith(names)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = parse(arguments)
    if options.do:
        way, pdf, out = options.do
        return do(way, Path(pdf), Path(out), options)
    rows = []
    for pages in map(int, options.pages.split(",")):
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as name:
            rows.append(measure("ocrsmith", pages, Path(name), options))
    if options.naive_pages:
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as name:
            rows.append(measure("naive", options.naive_pages, Path(name), options))
    found = conclude(rows)
    given = sys.argv[1:] if arguments is None else arguments
    command = ["python", "-m", "benchmarks.reading", *_without_folders(given)]
    settings = {key: value for key, value in settings_of(options).items() if key not in ("folder", "do")}
    result = {
        "benchmark": "reading",
        "how": __doc__.split("\n\n")[2].replace("\n", " ").strip(),
        "settings": settings | {"dpi": DPI, "cpus": os.cpu_count()},
        "rows": rows,
        **found,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name, result, options.results)
    print(table(rows, COLUMNS))
    if "grown_mb" in found:
        print(f"\nThe peak grows by {found['grown_mb']:.0f} MB from the fewest pages to the most.")
    if "naive_mb_for_most" in found:
        print(f"Pixels alone, drawn all at once: {found['naive_mb_for_most']:,.0f} MB.")
    print(f"\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
