"""Collect the fonts of `font_table.py` into one small folder, and choose among them by coverage.

`collect_fonts` runs where the Debian packages are installed. It cuts each face down to nano's characters, drops
hinting and layout tables, gives Persian fonts that join letters by GSUB only the same glyphs under the code
points of the presentation forms, and writes `fonts.json` beside them. `load_fonts` needs neither fontTools nor
the packages.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsmith.datasets.synth.shaping import presentation_forms
from ocrsmith.errors import InputError, require
from ocrsmith.nano import alphabet
from ocrsmith.nano.font_table import FONTS, FontRow, packages

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

INDEX = "fonts.json"
_FEATURES = {"init": "initial", "medi": "medial", "fina": "final", "isol": "isolated"}
_BLANK = " \u00a0\u200c\t\n"
_DROPPED = ("GSUB", "GPOS", "GDEF", "kern", "BASE", "JSTF", "MATH", "DSIG", "vhea", "vmtx", "VORG", "FFTM")
# Scripts by their letter in the font table.
SCRIPTS = {"l": "latin", "z": "chinese", "f": "persian"}


@dataclass(frozen=True)
class Font:
    """One collected face: `covered` holds the characters (and presentation forms) it can draw."""

    path: Path
    family: str
    package: str
    scripts: str
    split: str
    covered: frozenset[str] = field(repr=False)

    def draws(self, text: Iterable[str]) -> bool:
        """Whether every character of `text` (as handed to the renderer) has a glyph here."""
        return self.covered.issuperset(text)


def load_fonts(folder: Path, split: str = "train") -> list[Font]:
    """The fonts that `collect_fonts` left in `folder`, in a fixed order.

    Raises InputError when there are none."""
    index = folder / INDEX
    if not index.is_file():
        raise InputError(
            "there are no collected fonts",
            place=str(index),
            mend="run `python -m ocrsmith.nano.fonts FOLDER` on a Debian machine and copy the folder here",
        )
    known = _drawn_characters()
    fonts = []
    for row in json.loads(index.read_text(encoding="utf-8")):
        if row["split"] == split:
            covered = frozenset(known - set(row["missing"]))
            path = folder / row["file"]
            fonts.append(Font(path, row["family"], row["package"], row["scripts"], row["split"], covered))
    return fonts


def collect_fonts(out_dir: Path, rows: Iterable[FontRow] = FONTS) -> list[dict[str, Any]]:
    """Cut the faces of `rows` down into `out_dir` and return the index that is written to `fonts.json`.

    Raises InputError naming the packages to install when a font file is absent."""
    require("fontTools", extra="pretrain", why="to cut fonts down")
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # remarks on every font's odd tables
    rows = list(rows)
    paths = {row: _installed(row) for row in rows}
    absent = sorted({row.package for row in rows if paths[row] is None})
    if absent:
        raise InputError(
            f"fonts of {len(absent)} packages are not installed",
            place="font table",
            mend="apt-get install --no-install-recommends " + " ".join(absent),
        )
    out_dir.mkdir(parents=True, exist_ok=True)
    index = []
    for row in rows:
        source = paths[row]
        if source is not None:
            index.append(_collect_face(row, source, out_dir))
    scratch = out_dir / (INDEX + ".tmp")
    scratch.write_text(json.dumps(index, ensure_ascii=False, indent=0), encoding="utf-8")
    os.replace(scratch, out_dir / INDEX)
    return index


@cache
def shaped_characters() -> str:
    """Every presentation form that nano's texts can need."""
    return "".join(
        form
        for letters, forms in presentation_forms().items()
        if all(c in alphabet.PERSIAN for c in letters)
        for form in forms.values()
    )


def _drawn_characters() -> set[str]:
    marks = alphabet.LAYOUT + alphabet.PERSIAN_MARKS + alphabet.ZWNJ
    return set(alphabet.alphabet()) - set(marks) | set(shaped_characters())


def _installed(row: FontRow) -> Path | None:
    listing = subprocess.run(["dpkg", "-L", row.package], capture_output=True, text=True, check=False).stdout
    for line in listing.splitlines():
        if line.endswith("/" + row.file) and os.path.isfile(line):
            return Path(line)
    return None


def _collect_face(row: FontRow, source: Path, out_dir: Path) -> dict[str, Any]:
    from fontTools.ttLib import TTFont

    font = TTFont(source, fontNumber=row.face)
    if "f" in row.scripts:
        _add_presentation_forms(font)
    wanted = _drawn_characters()
    if "z" not in row.scripts:
        wanted -= {*alphabet.hanzi_level1(), *alphabet.hanzi_level2()}
    drawn = _with_outlines(font, wanted)
    _cut(font, drawn)
    name = f"{Path(row.file).stem}-{row.face}.{'otf' if 'CFF ' in font else 'ttf'}"
    scratch = out_dir / (name + ".tmp")
    font.save(scratch)
    os.replace(scratch, out_dir / name)
    missing = "".join(sorted(_drawn_characters() - drawn))
    return {
        "file": name,
        "family": row.family,
        "package": row.package,
        "scripts": row.scripts,
        "split": row.split,
        "missing": missing,
    }


def _with_outlines(font: TTFont, wanted: set[str]) -> set[str]:
    """The characters of `wanted` whose glyph has something in it (or is rightly blank)."""
    from fontTools.pens.boundsPen import ControlBoundsPen

    glyphs = font.getGlyphSet()
    cmap = font.getBestCmap() or {}
    drawn = set()
    for character in wanted:
        name = cmap.get(ord(character))
        if name is None or name == ".notdef":
            continue
        pen = ControlBoundsPen(glyphs)
        glyphs[name].draw(pen)
        if character in _BLANK or (pen.bounds and pen.bounds[2] > pen.bounds[0]):
            drawn.add(character)
    return drawn


def _cut(font: TTFont, characters: set[str]) -> None:
    from fontTools import subset

    options = subset.Options()
    options.hinting = False
    options.layout_features = []
    options.name_IDs = []
    options.notdef_outline = True
    options.glyph_names = False
    options.legacy_kern = False
    options.drop_tables += list(_DROPPED)
    options.passthrough_tables = False
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=[ord(c) for c in characters | {" "}])
    cutter.subset(font)


def _substitutions(font: TTFont, feature: str) -> tuple[dict[str, str], dict[tuple[str, ...], str]]:
    """The single and ligature substitutions that a GSUB feature reaches in any script."""
    single: dict[str, str] = {}
    ligatures: dict[tuple[str, ...], str] = {}
    table = font["GSUB"].table if "GSUB" in font else None
    if table is None or table.FeatureList is None:
        return single, ligatures
    chosen = [r.Feature for r in table.FeatureList.FeatureRecord if r.FeatureTag == feature]
    for number in sorted({i for f in chosen for i in f.LookupListIndex}):
        for subtable in table.LookupList.Lookup[number].SubTable:
            inner = getattr(subtable, "ExtSubTable", subtable)
            if hasattr(inner, "mapping"):
                for old, new in inner.mapping.items():
                    if isinstance(new, str):
                        single.setdefault(old, new)
            for first, found in getattr(inner, "ligatures", {}).items():
                for ligature in found:
                    ligatures.setdefault((first, *ligature.Component), ligature.LigGlyph)
    return single, ligatures


def _add_presentation_forms(font: TTFont) -> None:
    """Map presentation forms that the font lacks to the glyphs its joining features would choose."""
    cmap = font.getBestCmap() or {}
    by_form = {form: _substitutions(font, tag)[0] for tag, form in _FEATURES.items()}
    joined: dict[tuple[str, ...], str] = {}
    for tag in ("rlig", "liga", "ccmp"):
        joined.update(_substitutions(font, tag)[1])

    def glyph(letter: str, form: str) -> str | None:
        base = cmap.get(ord(letter))
        return None if base is None else by_form[form].get(base, base if form == "isolated" else None)

    added: dict[int, str] = {}
    for letters, forms in presentation_forms().items():
        for form, code in forms.items():
            if ord(code) in cmap:
                continue
            if len(letters) == 1:
                found = glyph(letters, form)
            else:
                first = glyph(letters[0], "initial" if form == "isolated" else "medial")
                pair = (first or "", glyph(letters[1], "final") or "")
                found = joined.get(pair)
            if found is not None:
                added[ord(code)] = found
    for table in font["cmap"].tables:
        if table.isUnicode():
            table.cmap.update(added)


def main() -> None:
    """`python -m ocrsmith.nano.fonts FOLDER`: collect the training fonts into FOLDER/fonts, the held-out
    ones into FOLDER/fonts_heldout. `--packages` prints the Debian packages to install first."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(description="Collect nano's fonts")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/nano"))
    parser.add_argument("--packages", action="store_true", help="print the Debian packages and stop")
    arguments = parser.parse_args()
    if arguments.packages:
        sys.stdout.write(" ".join(packages()) + "\n")
        return
    for split, name in (("train", "fonts"), ("heldout", "fonts_heldout")):
        out = arguments.folder / name
        index = collect_fonts(out, [row for row in FONTS if row.split == split])
        size = sum((out / row["file"]).stat().st_size for row in index)
        sys.stderr.write(f"{name}: {len(index)} faces, {size / 1e6:.1f} MB in {out}\n")


if __name__ == "__main__":
    main()
