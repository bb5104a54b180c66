"""The base of all settings: frozen, no unknown names, YAML in and out, errors that name the option."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ocrsmith.errors import SettingsError
from ocrsmith.settings.files import write_text


class Settings(BaseModel):
    """Values with types, ranges and a sentence each; `from_values` and `from_yaml` raise `SettingsError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], *, place: str | None = None) -> Self:
        """Validates `values`; a wrong one raises `SettingsError` with option, value and what is allowed."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _settings_error(error, place, cls) from error

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Reads a YAML file; errors as `from_values` and `read_yaml`."""
        return cls.from_values(read_yaml(path), place=str(path))

    def to_yaml(self) -> str:
        """All values, defaults included, in the order of declaration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)

    def save(self, path: Path) -> None:
        """Writes `to_yaml()`; complete or not at all."""
        write_text(path, self.to_yaml())


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SettingsError: no such file, not text, not YAML, or no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"The settings file {path.name!r} does not exist.", place=str(path), mend="check the path"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"The settings file cannot be read as text: {error}.", place=str(path), mend="give a YAML file"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise SettingsError(
            f"The settings file is not YAML: {problem}.", place=where, mend="mend that line"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"The settings file holds a {type(values).__name__}, not options.",
            place=str(path),
            mend="write `option: value` lines",
        )
    return values


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `overrides` laid over it, sections merged."""
    merged = dict(base)
    for name, value in overrides.items():
        below = merged.get(name)
        merged[name] = (
            merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
        )
    return merged


def without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that are not None, and sections that have such: what a user typed."""
    nested = {
        name: without_none(value) if isinstance(value, Mapping) else value for name, value in options.items()
    }
    return {name: value for name, value in nested.items() if value is not None and value != {}}


def _settings_error(error: ValidationError, place: str | None, cls: type[BaseModel]) -> SettingsError:
    problems = []
    mends = []
    for entry in error.errors():
        option = ".".join(str(part) for part in entry["loc"]) or cls.__name__
        if entry["type"] == "extra_forbidden":
            problems.append(f"Unknown option {option!r}.")
            mends.append(f"known here: {', '.join(_known_options(cls, entry['loc'][:-1]))}")
        elif entry["type"] == "value_error":
            problems.append(str(entry["ctx"]["error"]))
        else:
            allowed = entry["msg"][0].lower() + entry["msg"][1:]
            problems.append(f"{option} = {entry['input']!r}: {allowed}.")
    mend = "; ".join(dict.fromkeys(mends)) or "give a value in the range named"
    return SettingsError("\n".join(problems), place=place, mend=mend)


def _known_options(cls: type[BaseModel], section: tuple[int | str, ...]) -> list[str]:
    for part in section:
        field = cls.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        cls = inner
    return list(cls.model_fields)
