"""JSON exports of Label Studio: the text of each page, or its lines cut along their regions.

Of the annotations of a task those that were cancelled do not count; the one marked as ground truth is taken,
else the latest. Its results are joined by their id: rectangle, polygon or ellipse, labels, and the text area
that holds the transcription. A text area that belongs to no region is the text of the whole page.

Places are percentages of the picture as Label Studio showed it. `/data/local-files/?d=…` and `/data/upload/…`
are looked for beside the export.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source, Unit
from ocrsmith.datasets.importers.json_images import ImageFolder, ImageValueError, find_folder
from ocrsmith.datasets.importers.json_stream import Item, JsonFile, first_object, open_json
from ocrsmith.datasets.importers.regions import Region, candidates
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

_IMAGE_KEYS = ("image", "ocr", "captioning", "img")
_IMAGE_END = re.compile(r"\.(?:png|jpe?g|webp|bmp|gif|tiff?|jp2)$", re.IGNORECASE)
_UPLOAD = re.compile(r"/data/(?P<stored>upload/(?:.*/)?(?P<name>(?:[0-9a-f]{8}-)?(?P<own>[^/]+)))")

Points = tuple[tuple[float, float], ...]


class TaskError(Exception):
    """A task that cannot be used; the message says why. `reason` is a ledger code."""

    def __init__(self, detail: str, reason: str = "malformed") -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(slots=True)
class _Part:
    """What the results of one id say together."""

    texts: list[str] = field(default_factory=list)
    polygon: Points = ()
    placed: bool = False
    """It has a place in the picture, even where that is no polygon."""
    labels: list[str] = field(default_factory=list)


def recognises(path: Path, head: bytes) -> bool:
    """JSON whose first item is a task: `data`, and `annotations` that have results."""
    first = first_object(path, head, ()) if head else None
    if first is None or not isinstance(first.get("data"), dict):
        return False
    annotations = first.get("annotations", first.get("completions"))
    return isinstance(annotations, list) and all(
        isinstance(annotation, dict) and "result" in annotation for annotation in annotations
    )


def open_label_studio(path: Path, options: ImportOptions) -> Source:
    """The tasks of an export as a source; `options.unit`: pages, unless lines are asked for.

    Raises:
        DataError: it is no JSON, or its items are no tasks.
    """
    file = open_json(path, options.encoding, ())
    if not any(isinstance(item.value.get("data"), dict) for item in file.head):
        names = ", ".join(repr(name) for name in file.head[0].value)
        raise DataError(
            f"The items are no tasks of Label Studio: they have no object 'data', but: {names}.",
            place=f"{path}, line {file.head[0].line}",
            mend="Export as JSON (not JSON-MIN, CSV or COCO), or name another format with --format.",
        )
    images = find_folder(path.parent, (_local_name(item.value, options) for item in file.head))
    notes = images.note(path.name)
    if any(len(_annotations(item.value)) > 1 for item in file.head):
        notes = (*notes, f"{path.name}: of several annotations the ground truth is taken, else the latest.")
    return Source(path, "label_studio", file.rows, lambda: _read(file, images, options), notes=notes)


def _read(file: JsonFile, images: ImageFolder, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    for item in file.items():
        if isinstance(item, Excluded):
            yield item
            continue
        written = ""
        try:
            written = _written(item.value, options)
            image, written = _find_image(written, images)
            yield from _task(item, image, written, file.path, options.unit or "page")
        except (TaskError, ImageValueError) as error:
            yield Excluded(error.reason, str(error), written, str(file.path), item.line)


def _task(
    item: Item, image: bytes | Path | None, written: str, path: Path, unit: Unit
) -> Iterator[Candidate | Excluded]:
    chosen, others = _choose(_annotations(item.value))
    parts = _parts(chosen.get("result"))
    task_id = item.value.get("id")
    name = f"task_{task_id}" if isinstance(task_id, (int, str)) else f"line_{item.line}"
    meta = {"annotation": chosen.get("id"), "other_annotations": others or None}
    page = Candidate(
        image=image,
        image_path=written,
        text=None,
        source=str(path),
        line=item.line,
        id=f"{path.name}#{name}",
        meta={key: value for key, value in meta.items() if value is not None},
    )
    whole = "\n".join(text for part in parts.values() if not part.placed for text in part.texts)
    placed = {key: part for key, part in parts.items() if part.placed}
    if unit == "page":
        missing = sum(not part.texts for part in placed.values())
        if not whole.strip() and 0 < missing < len(placed):
            raise TaskError(
                f"{missing} of {len(placed)} regions of the page have no text, so its text is incomplete: "
                "transcribe or delete them, or use --unit line.",
                "illegible",
            )
        if whole.strip() or not placed:
            yield from candidates(page, [Region(whole, (), order=0)], "page")
            return
    elif not placed:
        raise TaskError("The task has no regions to cut lines from: use --unit page.", "empty_text")
    yield from candidates(page, [_region(key, part) for key, part in placed.items()], unit)


def _region(key: str, part: _Part) -> Region:
    return Region(
        "\n".join(part.texts), part.polygon, id=key, meta={"labels": part.labels} if part.labels else {}
    )


def _annotations(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    # "completions" is what Label Studio before 1.0 called them.
    found = task.get("annotations", task.get("completions"))
    if not isinstance(found, list):
        return []
    return [one for one in found if isinstance(one, dict) and not one.get("was_cancelled")]


def _choose(annotations: list[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """The annotation to take, and how many others there are."""
    if not annotations:
        raise TaskError(
            "The task has no annotation that was not cancelled: annotate it, or leave it out.", "empty_text"
        )

    def rank(one: dict[str, Any]) -> tuple[bool, str]:
        return bool(one.get("ground_truth")), str(one.get("updated_at") or one.get("created_at") or "")

    # Of equals the last one, as Label Studio exports them in the order of their making.
    return max(reversed(annotations), key=rank), len(annotations) - 1


def _parts(results: Any) -> dict[str, _Part]:
    """The results of an annotation by id, in their order."""
    if not isinstance(results, list):
        raise TaskError("The annotation has no list of results.")
    parts: dict[str, _Part] = {}
    for number, result in enumerate(results):
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue  # relations between regions have no value
        if _number(result.get("image_rotation") or 0) % 360:
            raise TaskError(
                f"The page was turned by {result['image_rotation']}° in Label Studio: turn the file itself."
            )
        part = parts.setdefault(str(result.get("id") or number), _Part())
        part.texts += _texts(result, value)
        if {"x", "points", "rle", "vertices"} & value.keys():
            part.placed = True
            part.polygon = part.polygon or _polygon(result, value)
        for key, labels in value.items():
            if key.endswith("labels") and isinstance(labels, list):
                part.labels += [str(label) for label in labels if str(label) not in part.labels]
    return parts


def _texts(result: Mapping[str, Any], value: Mapping[str, Any]) -> list[str]:
    text = value.get("text") if result.get("type", "textarea") == "textarea" else None
    if isinstance(text, str):
        text = [text]
    return [str(line) for line in text if str(line).strip()] if isinstance(text, list) else []


def _polygon(result: Mapping[str, Any], value: Mapping[str, Any]) -> Points:
    """The region in pixels; empty for shapes that are none, e.g. brushes.

    Rectangles turn clockwise around their upper left corner; of ellipses, x and y are the centre.
    """
    width, height = _number(result.get("original_width")), _number(result.get("original_height"))
    if not (width > 0 and height > 0):
        raise TaskError("A region has no original_width and original_height: export the task again.")

    def pixels(x: Any, y: Any) -> tuple[float, float]:
        return _number(x) * width / 100, _number(y) * height / 100

    if isinstance(value.get("points"), list):
        points = [point for point in value["points"] if isinstance(point, list) and len(point) == 2]
        return tuple(pixels(x, y) for x, y in points) if len(points) > 2 else ()
    if "radiusX" in value:
        x, y = pixels(value.get("x"), value.get("y"))
        across, down = pixels(value.get("radiusX"), value.get("radiusY"))
        return ((x - across, y - down), (x + across, y + down))
    if not {"x", "y", "width", "height"} <= value.keys():
        return ()
    left, top = pixels(value["x"], value["y"])
    across, down = pixels(value["width"], value["height"])
    turn = math.radians(_number(value.get("rotation") or 0))
    cos, sin = math.cos(turn), math.sin(turn)
    corners = ((0.0, 0.0), (across, 0.0), (across, down), (0.0, down))
    return tuple((left + x * cos - y * sin, top + x * sin + y * cos) for x, y in corners)


def _number(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise TaskError(f"A region has {value!r} where a number should be: correct it.")


def _written(task: Mapping[str, Any], options: ImportOptions) -> str:
    """What the task's data says where its image is."""
    data = task.get("data")
    if not isinstance(data, dict):
        raise TaskError("The task has no object 'data', which names its image.")
    if options.image_column is not None:
        written = data.get(options.image_column)
    else:
        written = next((data[key] for key in _IMAGE_KEYS if isinstance(data.get(key), str)), None)
    if written is None and options.image_column is None:
        likely = [value for value in data.values() if isinstance(value, str) and _IMAGE_END.search(value)]
        written = likely[0] if len(likely) == 1 else None
    if not isinstance(written, str) or not written:
        names = ", ".join(repr(name) for name in data) or "nothing"
        raise TaskError(
            f"The task's data names no image ({names}): say which with --image-column NAME.", "missing"
        )
    return written


def _local_name(task: Mapping[str, Any], options: ImportOptions) -> str:
    """The path that a task writes, if it is one."""
    try:
        written = _written(task, options)
    except TaskError:
        return ""
    return "" if _UPLOAD.fullmatch(written) else _without_server(written)


def _without_server(written: str) -> str:
    if not written.startswith("/data/local-files"):
        return written
    return parse_qs(urlsplit(written).query).get("d", [""])[0]


def _find_image(written: str, images: ImageFolder) -> tuple[bytes | Path | None, str]:
    """Image and path, as `ImageFolder.read`; addresses of the server are looked for beside the export."""
    match = _UPLOAD.fullmatch(unquote(written))
    if match is None:
        image, named = images.read(_without_server(written))
        return image, named and written
    # The file that Label Studio stored has eight hex digits before its name; else the one that was uploaded.
    stored = match["stored"]
    names = (stored, f"images/{match['name']}", match["name"], match["own"], f"images/{match['own']}")
    there = next((name for name in names if (images.folder / name).is_file()), stored)
    return images.folder / there, written


FORMAT = Format("label_studio", "JSON exports of Label Studio", recognises, open_label_studio)
