"""Makes sample number i: from the seed and i alone, so that any process may make any sample, in any order."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers import Candidate
from ocrsmith.datasets.synth.effects.canvas import Canvas
from ocrsmith.datasets.synth.effects.seal import SEAL_CHARACTERS
from ocrsmith.datasets.synth.faces import FaceSet
from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.kinds import Content, Kind, find_kind
from ocrsmith.datasets.synth.looks import Look, apply, find_look
from ocrsmith.datasets.synth.scripts import main_script
from ocrsmith.datasets.synth.settings import SynthSettings
from ocrsmith.datasets.synth.sheet import Setter, Strike
from ocrsmith.datasets.synth.typeset import Engine, needed
from ocrsmith.datasets.synth.writer import Writer, units_of
from ocrsmith.records import Excluded

_TRIES = 8
_WIDEST_LINE = 2400
"""Pixels, about: longer lines get smaller letters."""
_SMALLEST = 18


@dataclass
class Maker:
    """Makes samples; can be sent to other processes."""

    settings: SynthSettings
    faces: FaceSet
    writer: Writer
    engine: Engine
    source: str
    """For the samples' `source`."""

    def make(self, index: int) -> Candidate | Excluded:
        """Sample number `index`, from 0."""
        rng = random.Random(f"{self.settings.seed}/{index}")
        kind = find_kind(rng.choice(self.settings.kinds))
        look_name = rng.choice(self.settings.looks)
        why = ""
        for _ in range(_TRIES):
            content = kind.write(self.writer, rng, rng.random() < self.settings.vertical)
            face = self._face(content, find_look(look_name), rng)
            if face is None:
                why = f"no font draws all of {_shorten(' '.join(content.strings))!r}"
                continue
            try:
                return self._draw(index, kind, look_name, content, face, rng)
            except OSError as error:  # FreeType gives up on some glyphs
                why = f"{face.name} cannot be drawn: {error}"
        detail = f"Sample {index} was not made in {_TRIES} tries; at last {why}. Give other fonts with --fonts."
        return Excluded("no_font", detail, "", self.source, index + 1)

    def _face(self, content: Content, look: Look, rng: random.Random) -> Face | None:
        characters: set[str] = set()
        for text in content.strings:
            more = needed(text, self.engine)
            if more is None:
                return None
            characters |= more
        return self.faces.choose(frozenset(characters), rng, self.engine, fixed=look.struck)

    def _draw(
        self, index: int, kind: Kind, look_name: str, content: Content, face: Face, rng: random.Random
    ) -> Candidate:
        look, strength = find_look(look_name), self.settings.strength
        size = round(rng.triangular(*kind.sizes, kind.sizes[0] + 0.3 * (kind.sizes[1] - kind.sizes[0])))
        script = main_script(content.text)
        if script == "Arabic":  # its letters are small for their font's size
            size = round(1.25 * size)
        if kind.name == "lines":
            size = max(_SMALLEST, min(size, 2 * _WIDEST_LINE // max(1, units_of(content.text))))
        strike = _strike(rng, strength) if look.struck and strength > 0 else None
        sheet = content.draw(Setter(face, size, self.engine, strike, rng), rng)
        canvas = Canvas.of(sheet.ink, size)
        if "stamp" in look.doses:
            canvas.seal_face = self.faces.choose(SEAL_CHARACTERS, rng, self.engine)
        done = apply(look, strength, canvas, rng)
        meta: dict[str, Any] = {
            "kind": kind.name,
            "seed": self.settings.seed,
            "index": index,
            "script": script,
            "font": face.name,
            "font_file": Path(face.path).name,
            "font_size": size,
            "vertical": content.vertical,
            "look": look_name,
            "strength": strength,
            "degradations": ([_strike_meta(strike)] if strike else []) + done,
        }
        emphasised = "".join(dict.fromkeys(cut.emphasised for cut in content.cuts))
        if emphasised:
            meta["emphasised"] = emphasised
        origins = {cut.origin for cut in content.cuts} - {""}
        if origins:
            meta["texts"] = sorted(origins)[:8]
        return Candidate(
            image=canvas.encode(),
            image_path="",
            text=content.text,
            source=self.source,
            line=index + 1,
            id=f"{kind.name}-{self.settings.seed}-{index:07}",
            group=min(origins) if len(origins) == 1 else "",
            meta=meta,
        )


def _strike(rng: random.Random, strength: float) -> Strike:
    return Strike(rng.uniform(0.015, 0.04) * 2 * strength, rng.uniform(0.03, 0.12) * 2 * strength)


def _strike_meta(strike: Strike) -> dict[str, Any]:
    return {"name": "uneven_baseline", "jitter": round(strike.jitter, 4), "weak": round(strike.weak, 4)}


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
