"""The engine `rapidocr`: PaddleOCR's detection and recognition in ONNX, as a baseline that needs no GPU.

Only models that are on the disk are used; nothing is downloaded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from ocrsmith.engines.base import PageRequest, ReadProgress, failed
from ocrsmith.engines.workers import reason_of
from ocrsmith.errors import InputError, require
from ocrsmith.images import open_image
from ocrsmith.records import Prediction
from ocrsmith.settings.base import Settings
from ocrsmith.settings.provenance import file_sha256
from ocrsmith.text.characters import script_of

EXTRA = "baselines"
TASKS = ("det", "cls", "rec")
"""Finding lines, turning them upright, reading them: what a model's file name says it is for."""
_KEYS = "character"
"""Where a recognition model keeps its alphabet. Without one, the package would download a list."""
_RIGHT_TO_LEFT = {"Arabic", "Hebrew", "Syriac", "Thaana", "Nko"}
_NO_SPACES = {"Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar"}


class RapidOcrSettings(Settings):
    """What the engine `rapidocr` takes."""

    models: Path | None = Field(
        default=None,
        description="folder with *det*.onnx, *cls*.onnx and *rec*.onnx; by default the package's own",
    )
    text_score: float = Field(
        default=0.5, ge=0, le=1, description="lines read with less confidence are left out"
    )
    threads: int | None = Field(default=None, ge=1, le=256, description="threads; by default one a core")


class RapidOcrEngine:
    """Reads pages with the package `rapidocr`: text lines are found, read, and put in reading order.

    The order is that of a single column: by rows, and within a row in the direction of its script.
    """

    name = "rapidocr"

    def __init__(self, settings: RapidOcrSettings) -> None:
        """
        Raises:
            MissingExtraError: the package is not installed.
            InputError: its models are not there.
        """
        why = "The engine rapidocr"
        package = require("rapidocr", extra=EXTRA, why=why)
        runtime = require("onnxruntime", extra=EXTRA, why=why)
        self.settings = settings
        self._models = find_models(settings.models or Path(str(package.__file__)).parent / "models")
        _check_alphabet(runtime, self._models["rec"])
        threads = settings.threads or -1
        params = {f"{task.capitalize()}.model_path": str(path) for task, path in self._models.items()}
        self._ocr = package.RapidOCR(
            params={
                **params,
                "Global.text_score": settings.text_score,
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            }
        )
        self._versions = {name: _version(name) for name in ("rapidocr", "onnxruntime")}
        self._hashes = {task: f"sha256:{file_sha256(path)}" for task, path in self._models.items()}

    @classmethod
    def load(cls, **options: Any) -> RapidOcrEngine:
        """From options by name, those of `RapidOcrSettings`; None is as good as not given."""
        given = {name: value for name, value in options.items() if value is not None}
        return cls(RapidOcrSettings.from_values(given, place="engine rapidocr"))

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        models = {task: {"name": path.name, "hash": self._hashes[task]} for task, path in self._models.items()}
        return {
            "versions": self._versions,
            "models": models,
            "text_score": self.settings.text_score,
            "not_honoured": {
                "prompt": "rapidocr takes none",
                "processing": "rapidocr scales images itself",
                "decoding": "rapidocr has no tokens: no limit, loop control or log-probabilities",
            },
            "runtime": {"threads": self.settings.threads},
        }

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """See `Engine.read`. One page at a time: its threads share the page."""
        for request in requests:
            yield self._read_page(request)
            if progress:
                progress(1)

    def _read_page(self, request: PageRequest) -> Prediction:
        begin = time.perf_counter()
        try:
            pixels = np.asarray(open_image(request.image))[:, :, ::-1]  # the package expects BGR
            found = self._ocr(np.ascontiguousarray(pixels))
            boxes = [] if found.boxes is None else [np.asarray(box, float) for box in found.boxes]
            text = in_reading_order(boxes, list(found.txts or ()))
        except Exception as error:  # a page must not take the others with it
            return failed(request, reason_of(error), seconds=time.perf_counter() - begin)
        return Prediction(request.id, text, "stop", time.perf_counter() - begin)


def find_models(folder: Path) -> dict[str, Path]:
    """The model for each of `TASKS` in a folder.

    Raises:
        InputError: one is missing, or there are several.
    """
    found = {}
    for task in TASKS:
        files = sorted(path for path in folder.glob("*.onnx") if f"_{task}" in path.stem or path.stem == task)
        if len(files) != 1:
            there = ", ".join(path.name for path in files) or "none"
            raise InputError(
                f"rapidocr needs one model for {task!r} (a file *_{task}*.onnx), there is {there}.",
                place=str(folder),
                mend="Install the package again (pip install --force-reinstall rapidocr), or put the models "
                "for det, cls and rec into a folder and name it with models. Nothing is downloaded.",
            )
        found[task] = files[0]
    return found


def in_reading_order(boxes: Sequence[np.ndarray], texts: Sequence[str]) -> str:
    """Texts of a page, a line for each row of boxes.

    Boxes are in one row when the middle of each lies within the height of the other. A row runs from right to
    left when most of its letters do. Parts of a row are set apart by a space, Chinese ones by none.

    Args:
        boxes: (4, 2) corners of each text in pixels, in any order.
        texts: what stands in each box.
    """
    rows: list[list[tuple[float, float, float, str]]] = []  # left, top, bottom, text
    parts = [
        (float(box[:, 0].min()), float(box[:, 1].min()), float(box[:, 1].max()), text)
        for box, text in zip(boxes, texts, strict=True)
        if text.strip()
    ]
    for part in sorted(parts, key=lambda part: part[1] + part[2]):
        if rows and _same_row(rows[-1][-1], part):
            rows[-1].append(part)
        else:
            rows.append([part])
    return "\n".join(_line(row) for row in rows)


def _same_row(one: tuple[float, float, float, str], other: tuple[float, float, float, str]) -> bool:
    middles = ((one[1] + one[2]) / 2, (other[1] + other[2]) / 2)
    return other[1] < middles[0] < other[2] and one[1] < middles[1] < one[2]


def _line(row: Sequence[tuple[float, float, float, str]]) -> str:
    texts = [part[3].strip() for part in sorted(row, key=lambda part: part[0])]
    scripts = [script for text in texts for script in map(script_of, text) if script]
    if 2 * sum(script in _RIGHT_TO_LEFT for script in scripts) > len(scripts):
        texts.reverse()
    line = texts[0]
    for text in texts[1:]:
        joined = script_of(line[-1]) in _NO_SPACES and script_of(text[0]) in _NO_SPACES
        line += text if joined else f" {text}"
    return line


def _check_alphabet(runtime: Any, model: Path) -> None:
    """Raises InputError for a recognition model without an alphabet, or one that cannot be loaded."""
    try:
        session = runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        present = _KEYS in session.get_modelmeta().custom_metadata_map
    except Exception as error:  # the runtime raises its own types
        raise InputError(
            f"The model cannot be loaded ({reason_of(error)}).", place=str(model), mend="Copy it again."
        ) from error
    if not present:
        raise InputError(
            "The recognition model has no alphabet in it.",
            place=str(model),
            mend="Take a model that was made for rapidocr. Nothing is downloaded.",
        )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
