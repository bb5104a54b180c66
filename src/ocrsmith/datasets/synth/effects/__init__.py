"""Degradations, each by name: what happens to ink, paper, before the camera and in the machine.

Each takes a `Canvas`, an amount from 0 (nothing is seen) to 1 (as bad as texts can still be read) and a source
of randomness, changes the canvas, and tells the values it took, for `meta`.
"""

from collections.abc import Mapping

from ocrsmith.datasets.synth.effects import camera, ink, machine, paper, seal
from ocrsmith.datasets.synth.effects.canvas import Canvas, Effect

INK: Mapping[str, Effect] = {
    "fade": ink.fade,
    "uneven_ink": ink.uneven_ink,
    "wear": ink.wear,
    "bleed": ink.bleed,
    "double_strike": ink.double_strike,
}
"""On the ink alone, before it is on paper."""

PICTURE: Mapping[str, Effect] = {
    "bleed_through": paper.bleed_through,
    "ruled": paper.ruled,
    "texture": paper.texture,
    "stains": paper.stains,
    "stamp": seal.stamp,
    "skew": camera.skew,
    "perspective": camera.perspective,
    "shadow": camera.shadow,
    "uneven_light": camera.uneven_light,
    "blur": camera.blur,
    "motion_blur": camera.motion_blur,
    "low_resolution": machine.low_resolution,
    "low_contrast": machine.low_contrast,
    "noise": machine.noise,
    "fax": machine.fax,
    "jpeg": machine.jpeg,
}
"""On the picture, in this order: paper, camera, machine."""

EFFECTS: Mapping[str, Effect] = {**INK, "paper_colour": paper.paper_colour, **PICTURE}

__all__ = ["EFFECTS", "INK", "PICTURE", "Canvas", "Effect"]
