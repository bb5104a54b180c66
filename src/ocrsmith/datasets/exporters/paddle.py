"""PaddleOCR's recognition files: `rec_gt_train.txt` …, a line `image path<tab>text` for each sample."""

from __future__ import annotations

from ocrsmith.datasets.exporters.base import ExportFormat, Job
from ocrsmith.datasets.exporters.lines import fault_of


def write(job: Job) -> None:
    """Writes a file for each split.

    PaddleOCR knows no escapes: a text with a line break or a tab is left out, for a model that is shown `\\n`
    learns to write a backslash.
    """
    files = {split: job.folder / f"rec_gt_{split}.txt" for split in job.splits}
    opened = {split: path.open("w", encoding="utf-8", newline="\n") for split, path in files.items()}
    try:
        for split, sample in job.samples():
            text = sample.text.strip()
            fault = fault_of(text, one_line=True)
            if fault is not None:
                job.refuse(sample, *fault)
                continue
            opened[split].write(f"{job.write_image(sample)}\t{text}\n")
            job.count(split, sample, loses=("group", "prompt", "meta"))
    finally:
        for file in opened.values():
            file.close()


FORMAT = ExportFormat("paddle", "PaddleOCR: rec_gt_train.txt …, and a folder of images", write)
