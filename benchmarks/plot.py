"""Draws the time of a training step, stacked by part: ours beside the references, as an SVG.

    python -m benchmarks.plot

Two scales, since the slowest bar would hide the others: on the left all engines, on the right all but R1. The
picture has a ground of its own, light or dark as the reader's system is; colours are told apart without red and
green, and every bar has its seconds in words.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from xml.sax.saxutils import escape

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.report import REPOSITORY, RESULTS
from benchmarks.results_store import Results, Row
from ocrsmith.errors import OcrsmithError
from ocrsmith.settings.files import write_text

PLOT = Path("docs/assets/step-time.svg")

PARTS = {
    "encode": ("image encoder", "#0072B2"),
    "learn": ("decoder, forward and backward", "#E69F00"),
    "optimizer": ("optimizer", "#009E73"),
    "rest": ("waiting for data, copies", "#8C8C8C"),
}
"""Part → (words, colour of Okabe and Ito's palette)."""
BARS = {
    "r1": "R1: published structure + PEFT",
    "r2": "R2: transformers' classes + PEFT",
    "ours": "ocrsmith",
    "ours, from files": "ocrsmith, decoding files",
    "ours, cached features": "ocrsmith, cached features",
}
HEADS = {"L": "Text lines (400×64)", "P": "A4 pages (150 dpi)"}

WIDTH, LABELS, GAP, RIGHT = 960, 210, 60, 64
"""Pixels: of the picture, of the labels' column, between both scales, for figures beside the longest bar."""
BAR, PITCH, TOP, HEAD = 16, 24, 56, 26

STYLE = """
.ground { fill: #ffffff } .text { fill: #1a1a1a } .faint { fill: #555555 } .line { stroke: #d0d0d0 }
text { font: 12px system-ui, sans-serif } .head { font-weight: 600; font-size: 13px }
@media (prefers-color-scheme: dark) {
  .ground { fill: #16181d } .text { fill: #f0f0f0 } .faint { fill: #b0b0b0 } .line { stroke: #40444d }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One engine's step, in seconds."""

    name: str
    seconds: float
    parts: dict[str, float]


def bars_of(results: Results, workload: str) -> list[Bar]:
    """The engines that were measured, in the order of `BARS`."""
    rows = results.training()
    return [
        Bar(words, row["s/step"], split(row))
        for label, words in BARS.items()
        if (row := rows.get((workload, label)))
    ]


def split(row: Row) -> dict[str, float]:
    """Seconds by part; they add up to the step."""

    def milliseconds(*names: str) -> float:
        return sum(row.get(f"{name} ms") or 0.0 for name in names)

    parts = {
        "encode": milliseconds("encode"),
        "learn": milliseconds("forward", "backward", "forward+backward"),
        "optimizer": milliseconds("optimizer"),
        "rest": milliseconds("load"),
    }
    whole = sum(parts.values()) or 1.0  # means, while the step is a median
    return {name: row["s/step"] * part / whole for name, part in parts.items()}


def draw_plot(results: Results) -> str:
    """The SVG; empty when nothing was measured."""
    groups = {workload: bars for workload in HEADS if (bars := bars_of(results, workload))}
    if not groups:
        return ""
    body, top = [], TOP
    for workload, bars in groups.items():
        body.append(_text(12, top + 14, HEADS[workload], "text head"))
        body += _panels(bars, top + HEAD)
        top += HEAD + PITCH * len(bars) + 40
    height = top + 8
    said = "; ".join(
        f"{HEADS[workload]}: " + ", ".join(f"{bar.name} {_seconds(bar.seconds)}" for bar in bars)
        for workload, bars in groups.items()
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="title said">\n'
        f'<title id="title">Seconds of a training step of 8 samples, by part</title>\n'
        f'<desc id="said">{escape(said)}</desc>\n<style>{STYLE}</style>\n'
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>\n'
    )
    return head + "\n".join([*_legend(), *body]) + "\n</svg>\n"


def _legend() -> list[str]:
    drawn, left = [_text(12, 22, "Seconds of a training step of 8 samples, 3B model", "text head")], 12.0
    for words, colour in PARTS.values():
        drawn.append(f'<rect x="{left:.0f}" y="34" width="12" height="12" fill="{colour}"/>')
        drawn.append(_text(left + 17, 44, words, "text"))
        left += 34 + 6.6 * len(words)
    return drawn


def _panels(bars: Sequence[Bar], top: float) -> list[str]:
    """Labels, then the bars at one scale or at two."""
    drawn = [_text(12, top + PITCH * row + 13, bar.name, "text") for row, bar in enumerate(bars)]
    fast = [bar for bar in bars if bar.name != BARS["r1"]]
    scales = [bars, fast] if fast and len(fast) < len(bars) else [bars]
    width = (WIDTH - LABELS - GAP * (len(scales) - 1)) / len(scales)
    for number, shown in enumerate(scales):
        left = LABELS + number * (width + GAP)
        longest = max(bar.seconds for bar in shown)
        drawn += _axis(left, top, PITCH * len(bars), longest, width - RIGHT)
        for row, bar in enumerate(bars):
            if bar in shown:
                drawn += _bar(bar, left, top + PITCH * row, (width - RIGHT) / longest)
            else:
                drawn.append(_text(left + 4, top + PITCH * row + 13, "(left)", "faint"))
    return drawn


def _bar(bar: Bar, left: float, top: float, scale: float) -> list[str]:
    drawn, x = [], left
    for name, seconds in bar.parts.items():
        width = seconds * scale
        words = f"{bar.name}: {PARTS[name][0]} {_seconds(seconds)}"
        drawn.append(
            f'<rect x="{x:.2f}" y="{top + 2:.1f}" width="{width:.2f}" height="{BAR}" fill="{PARTS[name][1]}">'
            f"<title>{escape(words)}</title></rect>"
        )
        x += width
    return [*drawn, _text(x + 5, top + 14, _seconds(bar.seconds), "text")]


def _axis(left: float, top: float, height: float, longest: float, width: float) -> list[str]:
    """Lines at round seconds."""
    step = _round_step(longest / 4)
    drawn = []
    for number in range(int(longest / step) + 1):
        x = left + number * step * width / longest
        drawn.append(
            f'<line class="line" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{top + height + 4:.1f}"/>'
        )
        drawn.append(_text(x, top + height + 18, f"{number * step:g} s", "faint", anchor="middle"))
    return drawn


def _round_step(about: float) -> float:
    """1, 2 or 5 times a power of ten, not below `about`."""
    power = 10.0 ** floor(log10(about))
    return next(unit * power for unit in (1, 2, 5, 10) if unit * power >= about * 0.999)


def _seconds(value: float) -> str:
    if value >= 0.9995:
        return f"{value:.2f} s"
    return f"{1000 * value:.1f} ms" if value < 0.01 else f"{1000 * value:.0f} ms"


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def main(arguments: list[str] | None = None) -> int:
    """Writes the picture. 1 when there is nothing to draw."""
    parser = argparse.ArgumentParser(prog="benchmarks.plot", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--output", type=Path, default=REPOSITORY / PLOT, help="where to write it")
    options = parser.parse_args(arguments)
    try:
        picture = draw_plot(Results(options.results))
        if not picture:
            print("Nothing to draw: no training was measured at full size on a GPU.", file=sys.stderr)
            return 1
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.output, picture)
    except OcrsmithError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
