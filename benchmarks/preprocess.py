"""Time to prepare an image on one core, JPEG decoding included, beside plain Pillow code.

python -m benchmarks.preprocess --repeats 30 --name preprocess
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from benchmarks.reference.preprocessing import prepare
from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from benchmarks.workloads import WORKLOADS, FileKind, draw, encode_file, make_processor, text_of
from ocrsmith.images.open import open_image
from ocrsmith.model.device_views import RawImages, raw_image
from ocrsmith.model.processing import Encoded, OcrProcessor

COLUMNS = (
    *("workload", "file", "paper", "ours ms", "device resize ms", "decode ms", "plain ms", "× plain"),
    *("KiB", "runs"),
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.preprocess", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--workloads", default="L,P", help="L: text lines; P: pages")
    add("--repeats", type=int, default=30, help="measurements; the median counts")
    add("--images", type=int, default=4, help="different images")
    add("--name", default="preprocess", help="of the result")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


def prepare_ours(processor: OcrProcessor, text: str, file: bytes) -> dict[str, Any]:
    """A batch of one sample, ready for the device."""
    return processor.collate([processor.encode([file], text=text)])


def prepare_for_device(processor: OcrProcessor, text: str, file: bytes) -> tuple[Encoded, RawImages]:
    """What is left for the host where the GPU resizes: the pixels as decoded, and the tokens."""
    settings = processor.settings
    image = open_image(file, alpha=settings.alpha, keep_grey=True)
    encoded = processor.encode_text(image.size, None, text)
    limits = {"min_tiles": settings.min_tiles, "max_tiles": settings.max_tiles}
    return encoded, RawImages.of([raw_image(image, processor.mode, **limits)])


def milliseconds(
    functions: dict[str, Callable[[bytes], Any]], files: list[bytes], repeats: int
) -> dict[str, list[float]]:
    """Times of each function, taken in turns; each is called once before."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(-1, repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function(files[number % len(files)])
            if number >= 0:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each workload, kind of file and paper."""
    torch.set_num_threads(1)
    rows = []
    kinds: tuple[tuple[FileKind, bool], ...] = (("JPEG", False), ("JPEG", True), ("PNG", False))
    for workload in (WORKLOADS[name] for name in options.workloads.split(",")):
        processor = make_processor("3b", workload)
        for kind, colour in kinds:
            files = [
                encode_file(draw(workload, seed, colour=colour), workload, kind)
                for seed in range(options.images)
            ]
            functions: dict[str, Callable[[bytes], Any]] = {
                "ours": partial(prepare_ours, processor, text_of(workload, 0)),
                "device resize": partial(prepare_for_device, processor, text_of(workload, 0)),
                "decode": partial(open_image, keep_grey=True),
                "plain": prepare,
            }
            times = milliseconds(functions, files, options.repeats)
            middle = {name: statistics.median(values) for name, values in times.items()}
            rows.append(
                {
                    "workload": workload.name,
                    "file": kind,
                    "paper": "tinted" if colour else "grey",
                    **{f"{name} ms": value for name, value in middle.items()},
                    "× plain": middle["plain"] / middle["ours"],
                    "KiB": sum(map(len, files)) / len(files) / 1024,
                    "runs": options.repeats,
                    "milliseconds": times,
                }
            )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result."""
    options = parse(arguments)
    rows = measure(options)
    command = ["python", "-m", "benchmarks.preprocess", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "preprocess",
        "how": "One core. ours: file in memory to collated batch (uint8 views, tokens). device "
        "resize: the same where the GPU resizes (uint8 pixels as decoded, tokens). decode: opening the file "
        "alone. plain: Pillow to normalised float32 views. In turns; medians.",
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
