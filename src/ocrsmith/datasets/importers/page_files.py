"""The image that a page's description belongs to, and its size: for ALTO, PAGE XML, hOCR and ICDAR."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path, PureWindowsPath
from typing import Any

from PIL import Image

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, resolve_image
from ocrsmith.datasets.importers.regions import Region, candidates, rounded
from ocrsmith.errors import DataError
from ocrsmith.images.open import FORMATS
from ocrsmith.records import Excluded

IMAGE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".webp",
    ".bmp",
    ".gif",
    ".jp2",
    ".avif",
    ".ppm",
    ".pgm",
)

_URL = re.compile(r"[a-z][a-z0-9+.-]{1,9}://", re.IGNORECASE)
_MAX_DISTORTION = 1.02
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True, slots=True)
class PageDescription:
    """What a file of ALTO, PAGE XML or hOCR says about a page."""

    regions: list[Region]
    """In the units of the description."""
    size: tuple[float, float] | None
    """Width and height in the same units; None: not said."""
    image: str
    """The image's name as written; may be empty."""
    number: int | None = None
    """From 1, in a file of several pages."""
    pixels: bool = True
    """Whether the units are pixels, of this image or of a larger or smaller one of the same page."""
    meta: dict[str, Any] = field(default_factory=dict)


def described_candidates(
    file: Path, description: PageDescription, root: Path, options: ImportOptions
) -> Iterator[Candidate | Excluded]:
    """The candidates of a described page. Its id is the file's path seen from `root`, so it is stable."""
    image, name = find_page_image(file, description.image, root, options)
    page_id = _name(file, root) + (f"#page_{description.number}" if description.number else "")
    if image is None:
        detail = (
            f"{page_id} names no image, and none of its name is beside it: put it there, or write its name "
            "into the file."
        )
        yield Excluded("missing", detail, "", str(file))
        return
    # The pages of one file are one document.
    group = _name(file, root) if description.number else ""
    page = Candidate(image, name, None, str(file), None, id=page_id, group=group, meta=description.meta)
    regions = description.regions
    if options.unit == "line":
        try:
            regions = fit_regions(description, image, root)
        except DataError as error:
            yield Excluded("malformed", f"{error.problem} {error.mend}", name, str(file))
            return
    yield from candidates(page, regions, options.unit or "page")


def find_page_image(file: Path, written: str, root: Path, options: ImportOptions) -> tuple[Path | None, str]:
    """The image that `file` describes, and how to name it.

    Looked for beside the file and one folder up (if that is within `root`): first as written, then by the last
    part of what is written, then by the name of the file itself with the suffix of an image.

    Args:
        written: what the file says; may be empty, an address on the web or a path of another computer.

    Returns:
        Path, and its name relative to `root`; what is written, if nothing is found (None without that).
    """
    folders = [file.parent]
    if options.allow_outside or (file.parent != root and file.parent.is_relative_to(root)):
        folders.append(file.parent.parent)
    names = [] if _URL.match(written) or "\0" in written else [written, PureWindowsPath(written).name]
    for name in dict.fromkeys(name for name in names if name):
        for folder in folders:
            path = resolve_image(folder, name)
            if _is_file(path):
                return path, _name(path, root)
    stem = file.name.partition(".")[0] if file.name.endswith((".page.xml", ".alto.xml")) else file.stem
    for folder in folders:
        found = image_of_stem(folder, stem)
        if found is not None:
            return found, _name(found, root)
    return (resolve_image(file.parent, written), written) if written else (None, "")


def image_of_stem(folder: Path, stem: str) -> Path | None:
    """The image in a folder that has this name without its suffix."""
    for suffix in (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES)):
        path = folder / (stem + suffix)
        if _is_file(path):
            return path
    return None


def fit_regions(description: PageDescription, image: Path, root: Path) -> list[Region]:
    """The regions in pixels of the image.

    Only the image's header is read, and only if it lies within `root`; others are left for the check of images.

    Raises:
        DataError: the sizes' proportions differ, so the polygons belong to another image; or no size is given.
    """
    regions, size = description.regions, description.size
    if size is None or not all(isfinite(side) and side > 0 for side in size):
        if description.pixels:
            return regions
        raise DataError(
            "Its coordinates are no pixels, and it does not give the page's size.",
            mend="Export it with pixels, or use --unit page.",
        )
    actual = upright_size(image) if image.resolve().is_relative_to(root.resolve()) else None
    if actual is None or (abs(actual[0] - size[0]) < 1 and abs(actual[1] - size[1]) < 1):
        return regions
    across, down = actual[0] / size[0], actual[1] / size[1]
    if max(across / down, down / across) > _MAX_DISTORTION:
        raise DataError(
            f"The page is {size[0]:g}×{size[1]:g} by its description, its image has {actual[0]}×{actual[1]} "
            "pixels: the coordinates belong to another picture, e.g. one that was cut or turned.",
            mend="Put the right image beside it, or use --unit page.",
        )
    return [_scaled(region, across, down) for region in regions]


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image by its header, turned as its EXIF orientation says; None if unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large picture: refused when it is opened, not here
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                turned = image.getexif().get(0x0112, 1) in _TURNED
    except Exception:  # Pillow's parsers raise whatever the damage causes; the check of images reports it
        return None
    return (height, width) if turned else (width, height)


def _scaled(region: Region, across: float, down: float) -> Region:
    polygon = tuple((x * across, y * down) for x, y in region.polygon)
    meta = dict(region.meta)
    if "baseline" in meta:
        meta["baseline"] = rounded([(x * across, y * down) for x, y in meta["baseline"]])
    return replace(region, polygon=polygon, meta=meta)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
