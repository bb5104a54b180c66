"""Makes the quickstart's bundled domain: scans of an invented archive in English, French and Chinese.

    python -m ocrsmith.nano.archive_domain src/ocrsmith/nano/sample_archive

Forty files ("dossiers") of a few lines each, half of them Latin and half Chinese, every file with a machine, a
ribbon, paper and habits of its own. Neither the faces nor this kind of look occur in nano's pretraining. The
same options give the same images.

Habits of the archive, transcribed as its readers do: a word struck out with x's is `xxxxx` (Chinese: `××`), a
s p a c e d  heading is one word, a line's end may be marked `/.`.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocrsmith.errors import InputError, OcrsmithError, OutputError, require
from ocrsmith.nano.archive_texts import KINDS, archive_heading, archive_line, chinese_words

if TYPE_CHECKING:
    from PIL import Image

    from ocrsmith.nano.archive_look import Cell

SEED = 1927
STRENGTH = 0.75
DOSSIERS = 40
LINES = 9
MOST_BYTES = 6000
"""Of one image."""


@dataclass(frozen=True)
class ArchiveFace:
    """A face of the domain, from a Debian package. None is in `font_table.FONTS`' training rows."""

    package: str
    file: str
    licence: str
    script: str
    """"latin" or "chinese"."""


FACES = (
    ArchiveFace("fonts-courier-prime", "Courier Prime.otf", "OFL-1.1", "latin"),
    ArchiveFace("fonts-gnutypewriter", "GNUTypewriter.ttf", "OFL-1.1", "latin"),
    ArchiveFace("fonts-compagnon", "Compagnon-Roman.otf", "OFL-1.1", "latin"),
    ArchiveFace("fonts-compagnon", "Compagnon-Light.otf", "OFL-1.1", "latin"),
    ArchiveFace("fonts-liberation2", "LiberationMono-Regular.ttf", "OFL-1.1", "latin"),
    ArchiveFace("fonts-cns11643-sung", "TW-Sung-98_1.ttf", "OGDL-TW-1.0", "chinese"),
    ArchiveFace("fonts-babelstone-han", "BabelStoneHan.ttf", "Arphic-1999", "chinese"),
    ArchiveFace("fonts-hanazono", "HanaMinA.ttf", "OFL-1.1", "chinese"),
    ArchiveFace("fonts-lxgw-wenkai", "LXGWWenKai-Light.ttf", "OFL-1.1", "chinese"),
    ArchiveFace("fonts-lxgw-wenkai", "LXGWWenKai-Regular.ttf", "OFL-1.1", "chinese"),
)
_FONT_ROOTS = ("/usr/share/fonts", "/usr/local/share/fonts")


@dataclass(frozen=True)
class ArchiveLine:
    """One typed line: its transcription, and what stands on the sheet, cell by cell."""

    text: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Dossier:
    """One document."""

    name: str
    language: str
    kind: str
    lines: tuple[ArchiveLine, ...]


def make_dossiers(count: int = DOSSIERS, lines: int = LINES, seed: int = SEED) -> list[Dossier]:
    """The documents' texts: a quarter English, a quarter French, half Chinese; only headings occur twice.

    In this order the quickstart's split (rest/36/72, seed 42) has all three languages in its test part.
    """
    used: set[str] = set()
    dossiers = []
    for number in range(1, count + 1):
        rng = random.Random(f"{seed} dossier {number}")
        language = ("en", "fr", "zh", "zh")[4 * (number - 1) // count]
        kind = KINDS[number // 4 % len(KINDS)]
        habits = {"ends": rng.random() < 0.3, "strikes": rng.random() < 0.4, "heading": rng.random() < 0.6}
        typed: list[ArchiveLine] = []
        while len(typed) < lines:
            heading = habits["heading"] and not typed
            text = archive_heading(language, rng) if heading else archive_line(language, kind, rng)
            if heading:
                typed.append(_spaced(text))  # headings are few words and may come again
            elif text not in used:
                used.add(text)
                typed.append(_typed(text, language, habits, rng))
        dossiers.append(Dossier(f"dossier-{number:02d}", language, kind, tuple(typed)))
    return dossiers


def _spaced(text: str) -> ArchiveLine:
    cells = [cell for character in text for cell in ((character,), (" ",))]
    return ArchiveLine(text, tuple(cells[:-1]))


def _typed(text: str, language: str, habits: dict[str, bool], rng: random.Random) -> ArchiveLine:
    if habits["ends"] and language != "zh" and len(text) < 42 and rng.random() < 0.4:
        text += "/."
    cells: list[Cell] = [(character,) for character in text]
    if habits["strikes"] and rng.random() < 0.3:
        sign, struck = ("×", "X") if language == "zh" else ("x", "x")
        words = _words(text, language)
        if words:
            start, end = rng.choice(words)
            for i in range(start, end):
                cells[i] = (text[i], struck)
            text = text[:start] + sign * (end - start) + text[end:]
    return ArchiveLine(text, tuple(cells))


def _words(text: str, language: str) -> list[tuple[int, int]]:
    """Start and end of what may be struck out: words of letters, Chinese ones of two hanzi."""
    if language == "zh":
        return [(text.index(word), text.index(word) + 2) for word in chinese_words() if word in text]
    words, start = [], 0
    for word in text.split(" "):
        if word.isalpha() and 4 <= len(word) <= 9:
            words.append((start, start + len(word)))
        start += len(word) + 1
    return words


def find_faces() -> dict[str, list[str]]:
    """Paths of the faces by script, as Debian installs them.

    Raises:
        InputError: some are not installed; names their packages."""
    found: dict[str, list[str]] = {"latin": [], "chinese": []}
    absent = set()
    for face in FACES:
        paths = sorted(path for root in _FONT_ROOTS for path in Path(root).rglob(face.file))
        if paths:
            found[face.script].append(str(paths[0]))
        else:
            absent.add(face.package)
    if absent:
        raise InputError(
            f"fonts of {len(absent)} packages are not installed",
            place="the archive's faces",
            mend="apt-get install --no-install-recommends " + " ".join(sorted(absent)),
        )
    return found


def make_archive(
    out: Path,
    *,
    strength: float = STRENGTH,
    seed: int = SEED,
    dossiers: Sequence[Dossier] | None = None,
    faces: dict[str, list[str]] | None = None,
) -> tuple[int, int]:
    """Writes `out/images/dossier-NN_line-NN.jpg` and, last, `out/content.md`.

    Args:
        strength: 0 clean … 1 the bundled archive … 1.5 hard to read.
        dossiers: the texts; None: those of `seed`.
        faces: font paths by script ("latin", "chinese"); None: the installed ones.

    Returns:
        Number of images and their bytes.

    Raises:
        InputError: fonts are missing. OutputError: `out` cannot be written.
    """
    require("cv2", extra="pretrain", why="Drawing the archive")
    faces = faces or find_faces()
    dossiers = make_dossiers(seed=seed) if dossiers is None else dossiers
    labels = ["# Lines of an invented archive, made by ocrsmith.nano.archive_domain: image path, tab, text."]
    total = 0
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        for dossier in dossiers:
            labels.append(f"# {dossier.name}: {dossier.kind} ({dossier.language})")
            for name, line, data in _scans(dossier, faces, strength, seed):
                (out / name).write_bytes(data)
                labels.append(f"{name}\t{line.text}")
                total += len(data)
        scratch = out / "content.md.tmp"
        scratch.write_text("\n".join(labels) + "\n", encoding="utf-8", newline="\n")
        os.replace(scratch, out / "content.md")
    except OSError as error:
        raise OutputError(
            f"the archive cannot be written: {error}", place=str(out), mend="choose another folder"
        ) from error
    return sum(len(dossier.lines) for dossier in dossiers), total


def _scans(
    dossier: Dossier, faces: dict[str, list[str]], strength: float, seed: int
) -> list[tuple[str, ArchiveLine, bytes]]:
    """Name, line and JPEG of each line of a document."""
    from PIL import Image

    from ocrsmith.nano.archive_look import draw_line, random_look

    wide = dossier.language == "zh"
    rng = random.Random(f"{seed} look {dossier.name}")
    look = random_look(rng.choice(faces["chinese" if wide else "latin"]), wide, rng, strength)
    scans = []
    for number, line in enumerate(dossier.lines):
        own = random.Random(f"{seed} scan {dossier.name} {number}")
        before = dossier.lines[number - 1].cells if number else ()
        after = dossier.lines[number + 1].cells if number + 1 < len(dossier.lines) else ()
        image = Image.fromarray(draw_line(line.cells, before, after, look, own))
        scans.append((f"images/{dossier.name}_line-{number + 1:02d}.jpg", line, _jpeg(image, own)))
    return scans


def _jpeg(image: Image.Image, rng: random.Random) -> bytes:
    """JPEG of quality 60–70, less where the image would be too large for the repository."""
    first = rng.randint(60, 70)
    for quality in range(first, 20, -6):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    return buffer.getvalue()


def main() -> None:
    """`python -m ocrsmith.nano.archive_domain OUT [--strength S] [--seed N]`."""
    parser = argparse.ArgumentParser(description="Make the quickstart's archive")
    parser.add_argument("out", type=Path)
    parser.add_argument("--strength", type=float, default=STRENGTH, help="0 clean … 1 the bundled one … 1.5")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--dossiers", type=int, default=DOSSIERS)
    parser.add_argument("--lines", type=int, default=LINES, help="lines of each dossier")
    arguments = parser.parse_args()
    try:
        texts = make_dossiers(arguments.dossiers, arguments.lines, arguments.seed)
        count, size = make_archive(
            arguments.out, strength=arguments.strength, seed=arguments.seed, dossiers=texts
        )
    except OcrsmithError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from error
    sys.stdout.write(
        f"{count} images, {size:,} bytes in {arguments.out}. Next:\n"
        f"  ocrsmith data build {arguments.out}/content.md -o DATA --group-by stem-prefix:_\n"
        f"  ocrsmith eval --model nano --data DATA --split test -o EVAL\n"
    )


if __name__ == "__main__":
    main()
