"""`content.md` and a folder of images: a line `image path<tab>text` for each sample."""

from __future__ import annotations

from ocrsmith.datasets.exporters.base import ExportFormat, Job
from ocrsmith.datasets.exporters.lines import ESCAPED, escape, fault_of

FILE = "content.md"


def write(job: Job) -> None:
    """Writes one file with all splits.

    If any text has a line break, all texts are escaped (`\\n`, `\\t`, `\\\\`), and a note says so: a reader
    has to be told to read them so.
    """
    escaped = any("\n" in text for text in job.texts())
    with (job.folder / FILE).open("w", encoding="utf-8", newline="\n") as file:
        for split, sample in job.samples():
            text = sample.text.strip()
            fault = fault_of(text)
            if fault is not None:
                job.refuse(sample, *fault)
                continue
            name = job.write_image(sample)
            file.write(f"{name}\t{escape(text) if escaped else text}\n")
            job.count(split, sample, loses=("group", "prompt", "meta"))
    if escaped:
        job.notes.append(f"{ESCAPED}: read {FILE} with --escapes.")
    used = [split for split in job.splits if job.counts[split]]
    if len(used) > 1:
        job.notes.append(
            f"The samples of {' and '.join(used)} stand in one file; --split exports one split alone."
        )


FORMAT = ExportFormat("content", "content.md, a line of image path and text for each, and images", write)
