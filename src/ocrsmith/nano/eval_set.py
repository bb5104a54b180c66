"""The lines that nano is judged on: texts of `eval_texts.tsv` in held-out fonts, lightly damaged.

    python -m ocrsmith.nano.eval_set build/nano/eval_set

The same seed gives the same images, whatever other lines there are.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocrsmith.errors import InputError, OcrsmithError, OutputError, require
from ocrsmith.nano.alphabet import alphabet
from ocrsmith.nano.fonts import Font, load_fonts
from ocrsmith.nano.shaping import for_drawing

TEXTS = Path(__file__).with_name("eval_texts.tsv")
STRENGTH = 0.3
SEED = 20250101
LANGUAGES = {"en": "l", "fr": "l", "zh": "z", "fa": "f"}
"""Language → the letter of its script in the font table."""


@dataclass(frozen=True)
class EvalText:
    """One line to read."""

    language: str
    text: str


def eval_texts(path: Path = TEXTS) -> list[EvalText]:
    """The texts of a TSV file with the columns language and text, in its order.

    Raises:
        InputError: not such a file, an unknown language, or a character that nano has no token for.
    """
    known = set(alphabet())
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the texts cannot be read: {error}", place=str(path), mend="give a UTF-8 TSV file"
        ) from error
    texts = []
    for number, line in enumerate(lines[1:], start=2):
        language, _, text = line.partition("\t")
        strange = sorted(set(text) - known)
        if language not in LANGUAGES or not text.strip() or strange:
            raise InputError(
                f"unknown language {language!r}, no text, or characters outside nano's alphabet: {strange}",
                place=f"{path}, line {number}",
                mend="write LANGUAGE, a tab and the text; languages are " + ", ".join(LANGUAGES),
            )
        texts.append(EvalText(language, text))
    return texts


def make_eval_set(
    out: Path,
    fonts_folder: Path,
    *,
    texts: Sequence[EvalText] | None = None,
    strength: float = STRENGTH,
    seed: int = SEED,
    split: str = "heldout",
) -> list[tuple[str, EvalText, str]]:
    """Writes `out/images/*.png` (gray line crops of natural size), `out/content.md`, `out/labels.tsv` (columns
    image_path, text, language, font) and `out/labels_LANGUAGE.tsv`; labels come last.

    Returns:
        Of each line: image path relative to `out`, text, font family.

    Raises:
        InputError: no fonts, or a text that no font can draw.
        OutputError: `out` cannot be written.
    """
    require("cv2", extra="pretrain", why="Rendering text")
    from PIL import Image

    from ocrsmith.nano.render import render_line

    fonts = load_fonts(fonts_folder, split)
    rows = []
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        for number, item in enumerate(texts if texts is not None else eval_texts()):
            rng = random.Random(f"{seed} {item.language} {item.text}")
            font = _choose_font(fonts, item, rng)
            name = f"images/{item.language}-{number:04d}.png"
            Image.fromarray(render_line(item.text, font.path, rng, strength)).save(out / name)
            rows.append((name, item, font.family))
        _write_labels(out, rows)
    except OSError as error:
        raise OutputError(
            f"the evaluation set cannot be written: {error}", place=str(out), mend="choose another folder"
        ) from error
    return rows


def _choose_font(fonts: Iterable[Font], item: EvalText, rng: random.Random) -> Font:
    """A font that draws all of the text; every family is as likely as any other."""
    needed = set(for_drawing(item.text))
    fitting: dict[str, list[Font]] = {}
    for font in fonts:
        if LANGUAGES[item.language] in font.scripts and font.draws(needed):
            fitting.setdefault(font.family, []).append(font)
    if not fitting:
        raise InputError(
            f"no font draws all of {item.text!r}", place="--fonts", mend="collect fonts that cover it"
        )
    return rng.choice(fitting[rng.choice(sorted(fitting))])


def _write_labels(out: Path, rows: Sequence[tuple[str, EvalText, str]]) -> None:
    with (out / "content.md").open("w", encoding="utf-8", newline="\n") as file:
        file.write("# Lines in fonts that nano was not trained on: image path, tab, text.\n")
        file.writelines(f"{name}\t{item.text}\n" for name, item, _ in rows)
    for language in (None, *LANGUAGES):
        chosen = [row for row in rows if language in (None, row[1].language)]
        path = out / (f"labels_{language}.tsv" if language else "labels.tsv")
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(["image_path", "text", "language", "font"])
            writer.writerows([name, item.text, item.language, font] for name, item, font in chosen)


def main() -> None:
    """`python -m ocrsmith.nano.eval_set OUT [--fonts FOLDER]`."""
    parser = argparse.ArgumentParser(description="Render the lines that nano is judged on")
    parser.add_argument("out", type=Path)
    parser.add_argument("--fonts", type=Path, default=Path("build/nano/fonts_heldout"))
    parser.add_argument("--strength", type=float, default=STRENGTH, help="damage, 0…1")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    out = arguments.out
    try:
        rows = make_eval_set(out, arguments.fonts, strength=arguments.strength, seed=arguments.seed)
    except OcrsmithError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from error
    sys.stdout.write(
        f"{len(rows)} lines in {out}. Next, for the CER of all and of each language:\n"
        f"  ocrsmith data build {out}/labels.tsv -o {out}/data_all --splits 100/0/0\n"
        f"  ocrsmith eval --model nano --data {out}/data_all --split train -o {out}/eval_all\n"
        f"  for l in {' '.join(LANGUAGES)}; do\n"
        f"    ocrsmith data build {out}/labels_$l.tsv -o {out}/data_$l --splits 100/0/0\n"
        f"    ocrsmith eval --model nano --data {out}/data_$l --split train -o {out}/eval_$l\n"
        f"  done\n"
    )


if __name__ == "__main__":
    main()
