"""All engines by name. An engine's libraries are imported when it is opened, not before."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ocrsmith.engines.base import Engine
from ocrsmith.errors import SettingsError, require


@dataclass(frozen=True, slots=True)
class EngineKind:
    """An engine that can be opened."""

    summary: str
    """One line for help."""
    module: str
    cls: str
    """The class; its `load` takes the options."""
    needs: str | None = None
    """A package without which the module cannot be imported."""
    extra: str = ""
    """The extra of ocrsmith that installs `needs`."""


ENGINES: Mapping[str, EngineKind] = MappingProxyType(
    {
        "native": EngineKind(
            "the model itself, in this process (GPU or CPU)",
            "ocrsmith.engines.native",
            "NativeEngine",
            needs="torch",
            extra="train",
        ),
        "vllm": EngineKind(
            "vLLM in this process (GPU)",
            "ocrsmith.engines.vllm",
            "VllmEngine",
            needs="torch",  # the module asks for vLLM itself, once it has told it where to log
            extra="vllm",
        ),
        "openai": EngineKind(
            "any server for OpenAI's chat completions (vLLM, SGLang, hosted)",
            "ocrsmith.engines.openai_api",
            "OpenAIEngine",
        ),
        "file": EngineKind("predictions made elsewhere, from a file", "ocrsmith.engines.file", "FileEngine"),
        "tesseract": EngineKind(
            "the program tesseract, as a baseline", "ocrsmith.engines.tesseract", "TesseractEngine"
        ),
        "rapidocr": EngineKind(
            "PaddleOCR's models on the CPU, as a baseline", "ocrsmith.engines.rapidocr", "RapidOcrEngine"
        ),
    }
)


def open_engine(name: str, **options: Any) -> Engine:
    """Opens an engine.

    Args:
        name: one of `ENGINES`.
        options: what its `load` takes; None is as good as not given.

    Raises:
        SettingsError: no such engine or option, or a wrong value.
        MissingExtraError: what the engine needs is not installed.
        InputError: what it is to open (model, file) cannot be used.
    """
    kind = ENGINES.get(name)
    if kind is None:
        raise SettingsError(
            f"There is no engine {name!r}.", place="--engine", mend=f"Use one of {', '.join(ENGINES)}."
        )
    if kind.needs:
        require(kind.needs, extra=kind.extra, why=f"The engine {name}")
    load = getattr(importlib.import_module(kind.module), kind.cls).load
    given = {option: value for option, value in options.items() if value is not None}
    _check_names(name, load, given)
    engine: Engine = load(**given)
    return engine


def _check_names(name: str, load: Callable[..., Engine], options: Mapping[str, Any]) -> None:
    """Options that the engine does not know, or lacks. Those that it checks itself are left to it."""
    parameters = inspect.signature(load).parameters.values()
    missing = [
        item.name
        for item in parameters
        if item.default is item.empty and item.kind is not item.VAR_KEYWORD and item.name not in options
    ]
    open_ended = any(item.kind is item.VAR_KEYWORD for item in parameters)
    known = [item.name for item in parameters if item.kind is not item.VAR_KEYWORD]
    unknown = [] if open_ended else [option for option in options if option not in known]
    if unknown or missing:
        what = f"has no option {', '.join(map(repr, unknown))}" if unknown else f"needs {', '.join(missing)}"
        raise SettingsError(
            f"The engine {name} {what}.", place=f"engine {name}", mend=f"It takes {', '.join(known)}."
        )
