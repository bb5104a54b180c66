"""Which fonts there are, and which characters each has: read with fontTools, kept in the user's cache folder.

A file is read again when its size or time changed. The cache only saves time: with or without it, readable or
not, the same fonts come out.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsmith.errors import InputError, require

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

_VERSION = 1
_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
_OUTLINES = ("glyf", "CFF ", "CFF2")
_COLOURED = ("CBDT", "sbix", "SVG ", "COLR")
_JOINING = {"init", "medi", "fina"}
# Fonts whose characters look like something else: no letters, or letters of another encoding.
_UNFIT = re.compile(
    r"symbol|emoji|dingbat|wingding|webding|icon|barcode|braille|\bmusic|\bmath|lastresort|last resort|"
    r"redacted|blokk|awesome|adobe blank|signwriting|keyboard|\bcmex|\bcmsy|\bcmmi|\besint|\brsfs|\bstmary|"
    r"\bwasy|\bmsam|\bmsbm|\beufm|dummy|unifont upper|marumoji|pictograph",
    re.IGNORECASE,
)
_PICTORIAL = 5  # PANOSE's family kind of symbols

Told = Callable[[int, int], None]
"""Told how many font files are read, and how many there are."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a font file."""

    path: str
    number: int
    """Of the face within a collection (.ttc)."""
    family: str
    style: str
    fixed: bool
    """Whether its characters are all of one width, as a typewriter's."""
    joins: bool
    """Whether it joins Arabic letters: by its own features, or by glyphs for the presentation forms."""
    ranges: array[int] = field(repr=False, compare=False)
    """The characters it has: first, one past the last, first, one past the last … of each stretch, rising."""

    @property
    def name(self) -> str:
        """Family and style, for people and for `meta`."""
        return f"{self.family} {self.style}".strip()


@dataclass(frozen=True, slots=True)
class FontScan:
    """What was found."""

    faces: list[Face]
    """In the order of their paths."""
    unreadable: list[tuple[str, str]]
    """(path, why) of font files that cannot be read."""


def font_folders() -> list[Path]:
    """Where this system keeps its fonts; folders that are not there are left out."""
    home = Path.home()
    if sys.platform == "darwin":
        places = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    elif sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        places = [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"]
        places += [Path(local) / "Microsoft/Windows/Fonts"] if local else []
    else:
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        own = os.environ.get("XDG_DATA_HOME") or str(home / ".local/share")
        places = [Path(folder) / "fonts" for folder in (own, *shared.split(":")) if folder]
        places.append(home / ".fonts")
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def scan_fonts(places: Sequence[Path] | None = None, told: Told | None = None) -> FontScan:
    """The faces in `places` (files and folders; None: the system's).

    Raises:
        InputError: a place is not there, or a file that was named is no readable font.
        MissingExtraError: fontTools is not installed.
    """
    require("fontTools", extra="synth", why="Finding fonts")
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # remarks on every font's odd tables
    files = sorted({os.path.realpath(file) for place in _places(places) for file in _font_files(place)})
    cache = _load_cache()
    fresh: dict[str, Any] = {}
    changed = False
    for done, file in enumerate(files, start=1):
        entry = cache.get(file)
        stamp = _stamp(file)
        if entry is None or entry["stamp"] != stamp:
            entry = {"stamp": stamp, **_read_file(file)}
            changed = True
        fresh[file] = entry
        if told is not None:
            told(done, len(files))
    if changed:
        _save_cache({**cache, **fresh})
    scan = FontScan(
        [face for file in files for face in _faces(file, fresh[file])],
        [(file, fresh[file]["error"]) for file in files if fresh[file]["error"]],
    )
    named = {os.path.realpath(place): place for place in places or () if place.is_file()}
    for file, why in scan.unreadable:
        if file in named:
            raise InputError(
                f"The font cannot be used: {why}.",
                place=str(named[file]),
                mend="Give a TrueType or OpenType font (.ttf, .otf, .ttc) with outlines.",
            )
    return scan


def _places(places: Sequence[Path] | None) -> Sequence[Path]:
    if places is None:
        return font_folders()
    for place in places:
        if not place.exists():
            raise InputError(
                f"There is no font file or folder {place}.", place="--fonts", mend="Correct the path."
            )
    return places


def _font_files(place: Path) -> Iterator[str]:
    if place.is_file():
        yield str(place)
        return
    for folder, _, names in os.walk(place):
        for name in names:
            if name.lower().endswith(_SUFFIXES):
                yield os.path.join(folder, name)


def _stamp(file: str) -> list[int]:
    try:
        status = os.stat(file)
    except OSError:
        return [0, 0]
    return [status.st_size, status.st_mtime_ns]


def _read_file(file: str) -> dict[str, Any]:
    """The faces of a file as they go into the cache, and what is wrong with it ("" if nothing)."""
    from fontTools.ttLib import TTCollection, TTFont

    try:
        with open(file, "rb") as stream:
            collection = stream.read(4) == b"ttcf"
        if collection:
            with TTCollection(file, lazy=True) as fonts:
                faces = [_describe(font, number) for number, font in enumerate(fonts.fonts)]
        else:
            with TTFont(file, lazy=True) as font:
                faces = [_describe(font, 0)]
    except (
        Exception
    ) as error:  # fontTools lets struct, assertion, key and other errors of damaged files through
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        return {"faces": [], "error": f"it cannot be read ({why[:120]})"}
    fit = [face for face in faces if face is not None]
    return {
        "faces": fit,
        "error": "" if fit else "it has no outlines of letters (only bitmaps, symbols or icons)",
    }


def _describe(font: TTFont, number: int) -> dict[str, Any] | None:
    """A face as it goes into the cache; None if texts cannot be drawn with it."""
    if not any(table in font for table in _OUTLINES) or any(table in font for table in _COLOURED):
        return None
    cmap = font.getBestCmap()
    names = font.get("name")
    family = names.getBestFamilyName() if names else None
    family = str(family or "unnamed")
    if not cmap or _UNFIT.search(family):
        return None
    panose = getattr(font["OS/2"], "panose", None) if "OS/2" in font else None
    if panose is not None and panose.bFamilyType == _PICTORIAL:
        return None
    points = {code for code, glyph in cmap.items() if glyph != ".notdef"}
    style = str((names.getBestSubFamilyName() if names else None) or "")
    return {
        "number": number,
        "family": family,
        "style": "" if style == "Regular" else style,
        "fixed": "post" in font and bool(font["post"].isFixedPitch),
        "joins": (0xFEDF in points and 0xFEE0 in points) or _features(font) >= _JOINING,
        "ranges": _ranges(points),
    }


def _features(font: TTFont) -> set[str]:
    table = font["GSUB"].table if "GSUB" in font else None
    if table is None or table.FeatureList is None:
        return set()
    return {record.FeatureTag for record in table.FeatureList.FeatureRecord}


def _ranges(points: Iterable[int]) -> list[int]:
    ranges: list[int] = []
    for point in sorted(points):
        if ranges and ranges[-1] == point:
            ranges[-1] = point + 1
        else:
            ranges += (point, point + 1)
    return ranges


def _faces(file: str, entry: dict[str, Any]) -> Iterator[Face]:
    shared: dict[bytes, array[int]] = {}  # the faces of a collection mostly have the same characters
    for row in entry["faces"]:
        ranges = array("I", row["ranges"])
        ranges = shared.setdefault(ranges.tobytes(), ranges)
        yield Face(file, row["number"], row["family"], row["style"], row["fixed"], row["joins"], ranges)


def cache_file() -> Path:
    """Where the index is kept."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ocrsmith" / "fonts.json"


def _load_cache() -> dict[str, Any]:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        value = json.loads(cache_file().read_bytes())
        if value["version"] == _VERSION:
            for file, entry in value["files"].items():  # raises if it is not as it was written
                list(_faces(file, entry))
                entry["stamp"], entry["error"]
            return dict(value["files"])
    return {}


def _save_cache(files: dict[str, Any]) -> None:
    """Keeps the index if it can; what is in it of fonts that are gone is dropped."""
    path = cache_file()
    kept = {file: entry for file, entry in files.items() if os.path.exists(file)}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump({"version": _VERSION, "files": kept}, file, separators=(",", ":"))
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
