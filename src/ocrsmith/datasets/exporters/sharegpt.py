"""ShareGPT conversations: `train.jsonl` …, a JSON object with `messages` and `images` on each line."""

from __future__ import annotations

import json

from ocrsmith.datasets.exporters.base import ExportFormat, Job
from ocrsmith.records import PageSample
from ocrsmith.text import IMAGE_TOKEN


def write(job: Job) -> None:
    """Writes a file for each split: the prompt is the user's turn, the text the assistant's."""
    files = {split: job.folder / f"{split}.jsonl" for split in job.splits}
    opened = {split: path.open("w", encoding="utf-8", newline="\n") for split, path in files.items()}
    try:
        for split, sample in job.samples():
            line = json.dumps(_row(job, sample, job.write_image(sample)), ensure_ascii=False)
            opened[split].write(_without_surrogates(line) + "\n")
            job.count(split, sample, loses=("meta",))
    finally:
        for file in opened.values():
            file.close()


def _row(job: Job, sample: PageSample, image: str) -> dict[str, object]:
    prompt = job.prompt_of(sample)
    if IMAGE_TOKEN not in prompt:
        prompt = f"{IMAGE_TOKEN}\n{prompt}"
    return {
        "id": sample.id,
        "group": sample.group,
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": sample.text},
        ],
        "images": [image],
    }


def _without_surrogates(line: str) -> str:
    """Half characters as JSON escapes: UTF-8 has none."""
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


FORMAT = ExportFormat(
    "sharegpt", "ShareGPT: train.jsonl … with messages and images, and a folder of images", write
)
