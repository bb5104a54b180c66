"""Looks: which degradations come together, how often and how strong."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocrsmith.datasets.synth.effects import EFFECTS, INK, PICTURE, Canvas
from ocrsmith.errors import SettingsError


@dataclass(frozen=True)
class Dose:
    """How often a degradation comes, and how strong, at strength 0.5."""

    chance: float
    low: float
    high: float
    """Amounts between 0 and 1."""


@dataclass(frozen=True)
class Look:
    """A way to look: doses by the name of the degradation."""

    title: str
    doses: Mapping[str, Dose]
    struck: bool = False
    """Typed letter by letter: each a little up or down, some weak; in faces of one width."""


LOOKS: Mapping[str, Look] = {
    "clean": Look("as printed: black on white, nothing done to it", {}),
    "scan": Look(
        "an office scanner: grey paper, slightly crooked, a little noise, sometimes a stamp",
        {
            "fade": Dose(0.35, 0.1, 0.4),
            "uneven_ink": Dose(0.2, 0.1, 0.5),
            "bleed": Dose(0.3, 0.1, 0.6),
            "paper_colour": Dose(0.5, 0.1, 0.6),
            "bleed_through": Dose(0.12, 0.1, 0.5),
            "ruled": Dose(0.06, 0.2, 0.6),
            "texture": Dose(0.4, 0.1, 0.5),
            "stamp": Dose(0.08, 0.2, 0.7),
            "skew": Dose(0.6, 0.05, 0.5),
            "uneven_light": Dose(0.3, 0.1, 0.5),
            "blur": Dose(0.5, 0.0, 0.5),
            "low_resolution": Dose(0.25, 0.1, 0.6),
            "low_contrast": Dose(0.3, 0.1, 0.6),
            "noise": Dose(0.5, 0.0, 0.5),
            "jpeg": Dose(0.7, 0.05, 0.6),
        },
    ),
    "fax": Look(
        "a fax: black and white, coarse, with streaks",
        {
            "fade": Dose(0.3, 0.1, 0.3),
            "bleed": Dose(0.4, 0.1, 0.5),
            "skew": Dose(0.5, 0.05, 0.4),
            "blur": Dose(0.4, 0.0, 0.3),
            "fax": Dose(1.0, 0.2, 0.8),
        },
    ),
    "photo": Look(
        "taken with a telephone: perspective, shadow, motion, JPEG",
        {
            "paper_colour": Dose(0.7, 0.1, 0.6),
            "texture": Dose(0.4, 0.1, 0.4),
            "stamp": Dose(0.05, 0.2, 0.6),
            "skew": Dose(0.5, 0.1, 0.8),
            "perspective": Dose(0.8, 0.1, 0.8),
            "shadow": Dose(0.5, 0.1, 0.6),
            "uneven_light": Dose(0.6, 0.1, 0.8),
            "blur": Dose(0.5, 0.0, 0.6),
            "motion_blur": Dose(0.2, 0.0, 0.5),
            "noise": Dose(0.6, 0.0, 0.6),
            "jpeg": Dose(1.0, 0.1, 0.7),
        },
    ),
    "archive": Look(
        "old files: yellow stained paper, faded and bled ink, ruled lines, stamps",
        {
            "fade": Dose(0.7, 0.2, 0.6),
            "uneven_ink": Dose(0.7, 0.2, 0.8),
            "wear": Dose(0.5, 0.2, 0.7),
            "bleed": Dose(0.5, 0.1, 0.7),
            "paper_colour": Dose(1.0, 0.4, 1.0),
            "bleed_through": Dose(0.4, 0.2, 0.8),
            "ruled": Dose(0.2, 0.2, 0.7),
            "texture": Dose(0.8, 0.3, 0.9),
            "stains": Dose(0.5, 0.1, 0.6),
            "stamp": Dose(0.2, 0.2, 0.8),
            "skew": Dose(0.6, 0.1, 0.6),
            "uneven_light": Dose(0.4, 0.1, 0.5),
            "blur": Dose(0.5, 0.0, 0.4),
            "noise": Dose(0.5, 0.0, 0.4),
            "jpeg": Dose(1.0, 0.05, 0.4),
        },
    ),
    "typewriter": Look(
        "typed: uneven baseline, weak and double strikes, worn ribbon; in typewriter faces if there are any",
        {
            "fade": Dose(0.5, 0.1, 0.4),
            "uneven_ink": Dose(0.9, 0.3, 0.8),
            "wear": Dose(0.7, 0.2, 0.8),
            "bleed": Dose(0.3, 0.1, 0.5),
            "double_strike": Dose(0.25, 0.1, 0.8),
            "paper_colour": Dose(0.8, 0.2, 0.8),
            "texture": Dose(0.6, 0.1, 0.6),
            "stamp": Dose(0.1, 0.2, 0.7),
            "skew": Dose(0.6, 0.1, 0.5),
            "blur": Dose(0.4, 0.0, 0.4),
            "noise": Dose(0.4, 0.0, 0.4),
            "jpeg": Dose(1.0, 0.05, 0.4),
        },
        struck=True,
    ),
}


def find_look(name: str) -> Look:
    """The look of that name.

    Raises:
        SettingsError: there is none; lists them.
    """
    if name not in LOOKS:
        known = "; ".join(f"{key}: {look.title}" for key, look in LOOKS.items())
        raise SettingsError(f"There is no look {name!r}.", place="--look", mend=f"Use one of {known}.")
    return LOOKS[name]


def apply(look: Look, strength: float, canvas: Canvas, rng: random.Random) -> list[dict[str, Any]]:
    """Brings the ink on paper and makes the picture look so.

    Args:
        strength: 0 (clean) to 1 (amounts twice as large as in `LOOKS`, up to 1).
    Returns:
        Of each degradation in turn: name, amount, and the values it took.
    """
    done: list[dict[str, Any]] = []

    def perhaps(name: str) -> None:
        dose = look.doses.get(name)
        if dose is None or strength <= 0:
            return
        # drawn in any case: whether one comes does not change the others
        lucky, share, seed = rng.random(), rng.random(), rng.getrandbits(64)
        if lucky < dose.chance * min(1.0, 2 * strength):
            amount = min(1.0, 2 * strength * (dose.low + share * (dose.high - dose.low)))
            values = EFFECTS[name](canvas, amount, random.Random(seed))
            done.append({"name": name, "amount": round(amount, 4), **values})

    for name in INK:
        perhaps(name)
    perhaps("paper_colour")
    canvas.lay_on_paper()
    for name in PICTURE:
        perhaps(name)
    return done
