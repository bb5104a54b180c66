"""What a base model asks of a training: `ocrsmith_recipe.yaml` in its folder.

The defaults of `TrainSettings` suit the 3B model. A base for which some of them do not fit, such as one of a
hundredth of that size, says so itself, so that `ocrsmith train --model BASE --data DIR -o RUN` is right for it.
The file holds options as a recipe does, but names neither model nor data. Recipes and options win over it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocrsmith.errors import SettingsError
from ocrsmith.settings.base import read_yaml
from ocrsmith.training.settings import TrainSettings, flat_options

RECIPE_FILE = "ocrsmith_recipe.yaml"


def recipe_file(model: str) -> Path | None:
    """The file of the bundled model or of a model folder; None where there is none, and for a hub id."""
    from ocrsmith.model.weights import NANO_FOLDER

    folder = NANO_FOLDER if model == "nano" else Path(model).expanduser()
    file = folder / RECIPE_FILE
    return file if file.is_file() else None


def read_model_recipe(model: str) -> dict[str, Any]:
    """The options that `model` asks for; empty where it asks for nothing.

    Raises:
        SettingsError: no YAML, an unknown option, a wrong value, or one that names model or data; names the
            file.
    """
    file = recipe_file(model)
    if file is None:
        return {}
    values = read_yaml(file)
    for name in ("model", "data"):
        if name in values:
            raise SettingsError(
                f"A model's recipe does not choose the {name}.", place=str(file), mend=f"take {name!r} out"
            )
    checked = TrainSettings.from_values({**values, "model": model, "data": "any"}, place=str(file))
    return checked.model_dump(mode="json", exclude_unset=True, exclude={"model", "data"})


def wishes_granted(settings: TrainSettings) -> list[str]:
    """Those options of the model's recipe that a run has, as `learning_rate 0.002`. Raises as the above."""
    wishes = flat_options(read_model_recipe(settings.model))
    chosen = flat_options(settings.model_dump(mode="json"))
    return [f"{name} {_said(value)}" for name, value in wishes.items() if chosen.get(name) == value]


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
