"""How datasets for DeepSeek-OCR are widely made: every image into a list, `from_dict`, `to_parquet`.

    python -m benchmarks.reference.widespread_script content.md OUT

Written anew with the structure of the scripts that tutorials pass on. It checks nothing: an image that cannot
be opened ends it, copies and documents are spread over the splits.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import datasets


def convert(content: Path, out: Path) -> dict[str, int]:
    """Writes `OUT/dataset_{train,val,test}.parquet`, 80/10/10. Gives the rows of each."""
    images, texts = [], []
    for line in content.read_text(encoding="utf-8").splitlines():
        path, text = line.split(maxsplit=1)
        images.append(Image.open(content.parent / path).convert("RGB"))
        texts.append(text)
    dataset = datasets.Dataset.from_dict({"image": images, "text": texts})
    held = dataset.train_test_split(test_size=0.2, seed=42)
    halves = held["test"].train_test_split(test_size=0.5, seed=42)
    parts = {"train": held["train"], "val": halves["train"], "test": halves["test"]}
    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        part.to_parquet(out / f"dataset_{name}.parquet")
    return {name: len(part) for name, part in parts.items()}


if __name__ == "__main__":
    datasets.disable_progress_bars()
    print(convert(Path(sys.argv[1]), Path(sys.argv[2])))
