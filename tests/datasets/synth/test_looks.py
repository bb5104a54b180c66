"""Degradations and looks: each does something, the same for the same seed, and leaves the text to be read."""

from __future__ import annotations

import json
import random
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ocrsmith.datasets.synth.effects import EFFECTS, INK, Canvas
from ocrsmith.datasets.synth.effects.seal import SEAL_CHARACTERS
from ocrsmith.datasets.synth.faces import FaceSet
from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.looks import LOOKS, apply, find_look
from ocrsmith.datasets.synth.typeset import Gray, draw_run, draws
from ocrsmith.errors import SettingsError
from ocrsmith.images import open_image


@pytest.fixture(scope="module")
def ink(dejavu: Face) -> Gray:
    run = draw_run("Hamburg 1234 fox", dejavu, 32)
    return np.pad(run.ink, 12)


def touched(
    name: str, ink: Gray, amount: float, seed: int, face: Face | None = None
) -> tuple[Canvas, dict[str, float | str]]:
    canvas = Canvas.of(ink, 32)
    canvas.seal_face = face
    if name not in INK:
        canvas.lay_on_paper()
    values = EFFECTS[name](canvas, amount, random.Random(seed))
    if name in (*INK, "paper_colour"):
        canvas.lay_on_paper()
    return canvas, values


@pytest.mark.parametrize("name", EFFECTS)
def test_a_degradation_shows_and_is_told_and_comes_again(name: str, ink: Gray, cjk: Face) -> None:
    clean = Canvas.of(ink, 32)
    clean.lay_on_paper()
    before = ink.copy()
    canvas, values = touched(name, ink, 0.6, 1, cjk)
    again, same_values = touched(name, ink, 0.6, 1, cjk)
    data = canvas.encode()
    assert data != clean.encode()
    assert data == again.encode()
    assert json.loads(json.dumps(values)) == same_values
    assert values
    assert np.array_equal(ink, before), "the ink that was given is not changed"
    decoded = np.asarray(open_image(data))
    assert decoded.shape[0] < 4 * ink.shape[0]


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (9, 14)])
def test_a_degradation_bears_odd_sizes(name: str, shape: tuple[int, int], cjk: Face) -> None:
    for amount in (0.01, 1.0):
        canvas, _ = touched(name, np.full(shape, 200, np.uint8), amount, 2, cjk)
        assert open_image(canvas.encode()).size


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_ink_stays_darker_than_paper(look: str, strength: float, ink: Gray) -> None:
    """Between the darkest and lightest parts of the picture there is enough to read by."""
    for seed in range(12):
        canvas = Canvas.of(ink, 32)
        apply(find_look(look), strength, canvas, random.Random(seed))
        grey = np.asarray(open_image(canvas.encode()).convert("L")).astype(int)
        dark, light = np.percentile(grey, (4, 60))
        assert light - dark > (45 if strength == 0.5 else 18), seed


@pytest.mark.parametrize("look", LOOKS)
def test_strength_0_is_clean(look: str, ink: Gray) -> None:
    canvas = Canvas.of(ink, 32)
    assert apply(find_look(look), 0.0, canvas, random.Random(1)) == []
    assert np.array_equal(canvas.image, 255 - ink)


def test_strength_scales_the_amounts(ink: Gray) -> None:
    def amounts(strength: float) -> dict[str, float]:
        done = apply(find_look("archive"), strength, Canvas.of(ink, 32), random.Random(4))
        return {item["name"]: item["amount"] for item in done}

    weak, usual = amounts(0.25), amounts(0.5)
    assert set(weak) <= set(usual)
    assert weak
    for name, amount in weak.items():
        assert usual[name] == pytest.approx(min(1, 2 * amount), abs=1e-3)


def test_a_fax_is_black_and_white_in_one_bit(ink: Gray) -> None:
    canvas, _ = touched("fax", ink, 0.5, 1)
    assert set(np.unique(canvas.image)) == {0, 255}
    assert Image.open(BytesIO(canvas.encode())).mode == "1"


def test_a_fax_loses_no_stroke(cjk: Face) -> None:
    """三 has three strokes in every fax: a lost row must not make it 二."""
    ink = np.pad(draw_run("三", cjk, 30).ink, 8)
    for seed in range(60):
        canvas, values = touched("fax", ink, 0.8, seed)
        column = canvas.image[:, canvas.image.shape[1] // 2] == 0
        strokes = int((np.diff(column.astype(int)) == 1).sum())
        assert strokes == 3 or values["streaks"], seed


def test_a_seal_is_red_and_leaves_the_text_below(ink: Gray, cjk: Face, faces: FaceSet) -> None:
    assert draws(cjk, SEAL_CHARACTERS, "own")
    canvas, values = touched("stamp", np.pad(ink, 60), 0.9, 3, cjk)
    red, green = canvas.image[..., 0].astype(int), canvas.image[..., 1].astype(int)
    assert (red - green > 60).sum() > 200
    assert values["words"]
    assert (red < 60).sum() > 100, "letters are black still"


def test_an_unknown_look_lists_the_known() -> None:
    with pytest.raises(SettingsError, match="no look 'scann'") as caught:
        find_look("scann")
    assert all(name in str(caught.value.mend) for name in LOOKS)
