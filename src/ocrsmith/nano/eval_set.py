"""The lines that nano is judged on, in held-out fonts, lightly damaged.

    python -m ocrsmith.nano.eval_set build/nano/eval_set
    python -m ocrsmith.nano.eval_set --views build/nano/heldout.npz

The first renders the texts of `eval_texts.tsv` for `ocrsmith eval` (the same seed gives the same images,
whatever other lines there are); the second renders generated lines, which pretraining reads on its way.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ocrsmith.datasets.synth.shaping import for_drawing
from ocrsmith.errors import InputError, OcrsmithError, OutputError, require
from ocrsmith.nano.alphabet import alphabet
from ocrsmith.nano.fonts import SCRIPTS, Font, load_fonts
from ocrsmith.settings.files import write_file
from ocrsmith.text.prompts import IMAGE_TOKEN

TEXTS = Path(__file__).with_name("eval_texts.tsv")
STRENGTH = 0.3
SEED = 20250101
VIEW_LINES = 36
"""Generated lines of each script that pretraining is watched on."""
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


def make_views(
    out: Path,
    fonts_folder: Path,
    words: Path,
    *,
    lines: int = VIEW_LINES,
    strength: float = STRENGTH,
    seed: int = SEED,
    split: str = "heldout",
    scripts: Iterable[str] = tuple(SCRIPTS.values()),
) -> int:
    """Writes the file that `pretrain.evaluate` reads: generated lines of full length, stretched to nano's view.

    Arrays of the `.npz`: views (N, S, S) uint8, texts (N,), scripts (N,).

    Args:
        out: the file.
        words: of `words.export_words`.
        lines: of each script.

    Returns:
        N.

    Raises:
        InputError: no fonts or no word list.
        OutputError: `out` cannot be written.
    """
    require("cv2", extra="pretrain", why="Rendering text")
    import numpy as np

    from ocrsmith.nano.render import LineStream

    samples = []
    for script in scripts:
        stream = LineStream(
            fonts_folder,
            words,
            seed=seed,
            mix={script: 1.0},
            paragraph_share=0,
            alphabet_share=0,
            max_strength=strength,
            split=split,
        )
        readable = (sample for sample in stream if IMAGE_TOKEN not in sample.text)
        samples += list(islice(readable, lines))
    views = np.stack([sample.view for sample in samples])
    texts = np.array([sample.text for sample in samples])
    names = np.array([sample.script for sample in samples])
    write_file(out, lambda file: np.savez_compressed(file, views=views, texts=texts, scripts=names))
    return len(samples)


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
    """`python -m ocrsmith.nano.eval_set OUT [--fonts FOLDER]`, or `… --views FILE [--words FILE]`."""
    parser = argparse.ArgumentParser(description="Render the lines that nano is judged on")
    parser.add_argument("out", type=Path, nargs="?", help="folder for the texts of eval_texts.tsv")
    parser.add_argument(
        "--views", type=Path, metavar="FILE", help="write generated lines for pretraining (.npz)"
    )
    parser.add_argument("--fonts", type=Path, default=Path("build/nano/fonts_heldout"))
    parser.add_argument("--words", type=Path, default=Path("build/nano/words.txt.gz"), help="for --views")
    parser.add_argument("--strength", type=float, default=STRENGTH, help="damage, 0…1")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    if arguments.out is None and arguments.views is None:
        parser.error("give a folder, or --views FILE")
    how = {"strength": arguments.strength, "seed": arguments.seed}
    try:
        if arguments.views is not None:
            count = make_views(arguments.views, arguments.fonts, arguments.words, **how)
            sys.stdout.write(f"{count} lines in {arguments.views}\n")
        if arguments.out is not None:
            rows = make_eval_set(arguments.out, arguments.fonts, **how)
            sys.stdout.write(_next_steps(arguments.out, len(rows)))
    except OcrsmithError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from error


def _next_steps(out: Path, count: int) -> str:
    return (
        f"{count} lines in {out}. Next, for the CER of all and of each language:\n"
        f"  ocrsmith data build {out}/labels.tsv -o {out}/data_all --splits 100/0/0\n"
        f"  ocrsmith eval --model nano --data {out}/data_all --split train -o {out}/eval_all\n"
        f"  for l in {' '.join(LANGUAGES)}; do\n"
        f"    ocrsmith data build {out}/labels_$l.tsv -o {out}/data_$l --splits 100/0/0\n"
        f"    ocrsmith eval --model nano --data {out}/data_$l --split train -o {out}/eval_$l\n"
        f"  done\n"
    )


if __name__ == "__main__":
    main()
