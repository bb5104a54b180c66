"""`review.html`: a queue to look at, image over reference over prediction, beside the table that is corrected.

Without scripts; everything that comes from data or a model is escaped. Images are those of the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from ocrsmith.evaluation.report.diff import language, segments

if TYPE_CHECKING:
    from ocrsmith.evaluation.mine.queue import Entry

_STYLE = """
:root{color-scheme:light dark;--line:light-dark(#dfe3e8,#303742);--soft:light-dark(#59626f,#a0a9b7);
--missing:light-dark(#fbdcd9,#55231f);--extra:light-dark(#d8e6fd,#1b3a70)}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:auto;padding:1.5rem 1rem;
background:light-dark(#f5f6f8,#11141a);color:light-dark(#191d23,#e8ebf0)}
article{background:light-dark(#fff,#1a1e25);border:1px solid var(--line);border-radius:8px;padding:1rem;
margin:1rem 0}
h1{font-size:1.6rem}
h2{font-size:1rem;margin:0;overflow-wrap:anywhere}
img{display:block;max-width:100%;min-height:3rem;object-fit:contain;object-position:left;background:#fff;
margin:.75rem 0}
.text{white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 .5rem}
p,small{color:var(--soft)}
del,ins{color:inherit;text-decoration:none;border-radius:2px}
del{background:var(--missing)}
ins{background:var(--extra)}
"""
_LONGEST = 20_000
"""Characters of a text that the page shows."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What the page says."""

    task: str = "Correct the column <code>text</code> in <code>labels.csv</code>; the rest is for information."
    """HTML."""
    text: str = "Reference"
    prediction: str = "Read"
    only_text: str = "in the reference, not read"
    only_prediction: str = "read, not in the reference"
    distance: str = "CER"


def render_queue(entries: Iterable[tuple[Entry, str]], wording: Wording | None = None) -> str:
    """The page.

    Args:
        entries: pages, each with the path of its image from the folder on.
        wording: what its two texts are, where they are not a reference and what a model read.
    """
    words = wording or Wording()
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src 'self' file: data:; style-src 'unsafe-inline'\"><title>Pages to review</title>"
        f"<style>{_STYLE}</style><h1>Pages to review</h1><p>{words.task} "
        f"<del>Marked so</del>: {words.only_text}. <ins>Marked so</ins>: {words.only_prediction}.</p>"
    )
    return head + "".join(part for entry, image in entries for part in _article(entry, image, words)) + "\n"


def _article(entry: Entry, image: str, words: Wording) -> Iterator[str]:
    is_told = entry.reason.startswith("CER") or not words.distance
    facts = [] if is_told else [f"{words.distance} {entry.cer:.1%}"]
    facts += [] if entry.confidence is None else [f"confidence {entry.confidence:.2f}"]
    true, read = entry.sample.text[:_LONGEST], entry.prediction[:_LONGEST]
    yield (
        f'\n<article id="{entry.rank}"><h2>{entry.rank}. {escape(entry.sample.id)}</h2>'
        f"<p>{escape(entry.reason)} <small>{', '.join(facts)}</small></p>"
        f'<img loading="lazy" src="{escape(quote(image))}" alt="{escape(image)}">'
    )
    sides = ((words.text, _marked(true, read, "true")), (words.prediction, _marked(true, read, "read")))
    for label, text in sides:
        yield f'<small>{label}</small><div class="text" dir="auto" lang="{language(true)}">{text}</div>'
    yield "</article>"


def _marked(true: str, read: str, side: str) -> str:
    """One side with what differs marked."""
    tag = "del" if side == "true" else "ins"
    found = []
    for segment in segments(true, read):
        text = escape("".join(piece.text for piece in getattr(segment, side)))
        found.append(text if segment.kind == "same" or not text else f"<{tag}>{text}</{tag}>")
    return "".join(found)
