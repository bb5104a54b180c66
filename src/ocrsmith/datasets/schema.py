"""The columns of a dataset on disk, and the way from a `PageSample` to a row and back.

The Parquet schema carries Hugging Face feature metadata, so `datasets.load_dataset` and the hub's viewer see
an Image feature without being told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ocrsmith.records import SPLITS, PageSample, SplitName

FORMAT_NAME = "ocrsmith-dataset"
FORMAT_VERSION = 1

MANIFEST_FILE = "manifest.json"
LEDGER_FILE = "excluded.jsonl"
CARD_FILE = "README.md"
DATA_FOLDER = "data"

HUB_SPLIT_NAMES: dict[SplitName, str] = {"train": "train", "val": "validation", "test": "test"}
"""Our split names and those that `datasets.load_dataset` gives them."""

_STRING = {"dtype": "string", "_type": "Value"}
_FEATURES = {
    "image": {"_type": "Image"},
    "text": _STRING,
    "id": _STRING,
    "group": _STRING,
    "source": _STRING,
    "prompt": _STRING,
    "meta": _STRING,
}

IMAGE_TYPE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

SCHEMA = pa.schema(
    [pa.field("image", IMAGE_TYPE)] + [pa.field(name, pa.string()) for name in _FEATURES if name != "image"],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


def split_name(name: str) -> SplitName | None:
    """Our name of a split; takes the hub's `validation` as `val`. None for anything else."""
    wanted = "val" if name in ("validation", "valid", "dev") else name
    return next((split for split in SPLITS if split == wanted), None)


def to_batch(samples: Sequence[PageSample]) -> pa.RecordBatch:
    """One record batch in `SCHEMA`, rows in the order given."""
    rows = [to_row(sample) for sample in samples]
    arrays = [pa.array([row[field.name] for row in rows], type=field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def to_row(sample: PageSample) -> dict[str, Any]:
    """The row of a sample; `meta` becomes JSON text with sorted keys, so that equal samples give equal rows."""
    return {
        "image": {"bytes": sample.image, "path": sample.image_path or None},
        "text": sample.text,
        "id": sample.id,
        "group": sample.group,
        "source": sample.source,
        "prompt": sample.prompt,
        "meta": json.dumps(sample.meta, ensure_ascii=False, sort_keys=True),
    }


def from_row(row: Mapping[str, Any], *, image: bytes, fallback_id: str) -> PageSample:
    """The sample of a row; columns that a foreign file lacks take their defaults."""
    value = row["image"]
    path = value.get("path") if isinstance(value, Mapping) else value if isinstance(value, str) else None
    meta = row.get("meta")
    return PageSample(
        id=row.get("id") or fallback_id,
        image=image,
        image_path=path or "",
        text=row["text"] or "",
        group=row.get("group") or "",
        source=row.get("source") or "",
        prompt=row.get("prompt"),
        meta=json.loads(meta) if isinstance(meta, str) and meta else {},
    )
