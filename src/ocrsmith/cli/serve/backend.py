"""What stands behind `ocrsmith serve`: from names and folders to backends, with a canary's two sides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsmith.cli import output
from ocrsmith.cli.options import keep_memory
from ocrsmith.cli.progress import CountBar
from ocrsmith.errors import SettingsError

if TYPE_CHECKING:
    from ocrsmith.serving.backends import Backend
    from ocrsmith.serving.vllm.opening import VllmOptions, VllmPlan

_SHARED_GPU = 0.9
"""Share of the GPU's memory for two vLLMs together, unless it is said."""
_NAME = re.compile(r"[\w.:@+-][\w.:@+/-]*")


@dataclass(frozen=True)
class Served:
    """A model or adapter that is to answer, by the name that clients ask for."""

    name: str
    model: str
    adapter: Path | None = None


@dataclass(frozen=True)
class Wanted:
    """What the command line says of models."""

    engine: str
    model: str
    name: str
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """Adapter folders by name."""
    candidate: Served | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the engine, by name; None is as good as not given."""


def read_wanted(
    engine: str,
    model: str,
    name: str | None,
    adapters: Sequence[str],
    candidate: str | None,
    options: Mapping[str, Any],
) -> Wanted:
    """Reads NAME=DIR and finds out what the candidate is.

    Raises:
        SettingsError: a name twice, or one that cannot be one.
        AdapterError: there is no adapter where one is said to be.
    """
    from ocrsmith.serving.vllm.adapters import adapter_folder

    named: dict[str, Path] = {}
    for entry in adapters:
        key, path = _named(entry)
        if key in named:
            raise _twice(key, "--adapter")
        named[key] = adapter_folder(path)
    first = name or model_name(model)
    if first in named:
        raise _twice(first, "--adapter")
    found = None if candidate is None else _candidate(candidate, model, first, named)
    rest = {key: path for key, path in named.items() if found is None or key != found.name}
    return Wanted(engine, model, first, rest, found, options)


def open_backends(wanted: Wanted) -> tuple[Backend, Backend | None]:
    """The backend that serves and the candidate's, if there is one. Models of `native` are loaded here.

    Raises:
        OcrsmithError: a model or adapter cannot be used, a package is missing, a wrong option.
    """
    return _open_vllm(wanted) if wanted.engine == "vllm" else _open_native(wanted)


def plan(wanted: Wanted, *, installed: bool = True, options: VllmOptions | None = None) -> VllmPlan:
    """How vLLM serves model and adapters; see `plan_vllm`. Adapters may be merged here."""
    from ocrsmith.serving.vllm.opening import plan_vllm

    with CountBar("tensors", "Merging", "merged") as bar:
        made = plan_vllm(
            wanted.model,
            name=wanted.name,
            adapters=wanted.adapters,
            options=options or _vllm_options(wanted),
            check=find_check,
            progress=bar,
            tell=tell,
            installed=installed,
        )
    for what, why in made.not_honoured.items():
        tell(f"{what}: {why}.")
    return made


def tell(line: str) -> None:
    """A remark on stderr."""
    output.notes().print(line, markup=False, soft_wrap=True)


def model_name(model: str) -> str:
    """What clients ask for where nothing else is said: `nano`, a folder's name, a hub id."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model


def find_check(adapter: Path) -> Any:
    """The pages that a merged adapter is verified on: of its run's dataset, if that is at hand."""
    from ocrsmith.cli.export import open_check, run_settings
    from ocrsmith.cli.options import Device

    data = run_settings(adapter.parent).get("data")
    if not isinstance(data, str) or not Path(data).is_dir():
        return None
    return open_check(data, 8, 256, Device.auto)


def _open_vllm(wanted: Wanted) -> tuple[Backend, Backend | None]:
    listen: Callable[[str], None] | None = tell if output.verbosity() > 0 else None
    side = wanted.candidate
    if side is None:
        return plan(wanted).backend(tell=tell, on_line=listen), None
    if side.adapter is not None and side.model == wanted.model and _all_fit_lora(wanted, side.adapter):
        both = plan(replace(wanted, adapters={**wanted.adapters, side.name: side.adapter}))
        backend = both.backend(tell=tell, on_line=listen)
        others = [model.name for model in both.models if model.name != side.name]
        return backend.only(others), backend.only([side.name])
    options = _vllm_options(wanted)
    half = round((options.gpu_memory_utilization or _SHARED_GPU) / 2, 3)
    options = replace(options, gpu_memory_utilization=half)
    tell(f"The candidate runs in a vLLM of its own; each gets {half:g} of the GPU's memory.")
    base = plan(wanted, options=options)
    adapters = {} if side.adapter is None else {side.name: side.adapter}
    parent = model_name(side.model) if adapters else side.name
    other = plan(Wanted("vllm", side.model, parent, adapters), options=options)
    return (
        base.backend(tell=tell, on_line=listen),
        other.backend(tell=tell, on_line=listen).only([side.name]),
    )


def _all_fit_lora(wanted: Wanted, candidate: Path) -> bool:
    from ocrsmith.model.weights import resolve_model
    from ocrsmith.serving.vllm.adapters import fits_lora

    base = resolve_model(wanted.model)
    return all(fits_lora(base, adapter) for adapter in (*wanted.adapters.values(), candidate))


def _vllm_options(wanted: Wanted) -> VllmOptions:
    from ocrsmith.serving.vllm.opening import VllmOptions

    return VllmOptions(**{key: value for key, value in wanted.options.items() if value is not None})


def _open_native(wanted: Wanted) -> tuple[Backend, Backend | None]:
    """Each adapter is merged into a model of its own; the base alone is served where there is no adapter."""
    from ocrsmith.engines.native import NativeEngine
    from ocrsmith.serving.native import NativeBackend

    keep_memory(wanted.options.get("device"))
    options = {key: value for key, value in wanted.options.items() if value is not None}

    def load(side: Served) -> NativeEngine:
        with output.notes().status(f"Loading {side.name}"):
            return NativeEngine.load(side.model, adapter=side.adapter, **options)

    sides = [Served(key, wanted.model, path) for key, path in wanted.adapters.items()]
    sides = sides or [Served(wanted.name, wanted.model)]
    parents = dict.fromkeys(wanted.adapters, wanted.name)
    base = NativeBackend({side.name: load(side) for side in sides}, parents=parents)
    if wanted.candidate is None:
        return base, None
    return base, NativeBackend({wanted.candidate.name: load(wanted.candidate)})


def _candidate(text: str, model: str, first: str, adapters: Mapping[str, Path]) -> Served:
    from ocrsmith.model.adapter_files import CONFIG_FILE

    if text in adapters:
        return Served(text, model, adapters[text])
    key, path = _named(text)
    for folder in (path / "adapter", path):
        if (folder / CONFIG_FILE).is_file():
            found = Served(key, model, folder)
            break
    else:
        whole = text.partition("=")[2] or text
        found = Served(key if "=" in text else model_name(whole), whole)
    if found.name in (first, *adapters):
        raise _twice(found.name, "--candidate")
    return found


def _named(entry: str) -> tuple[str, Path]:
    """NAME=DIR, or DIR: then the name is the folder's, of RUN/adapter the run's."""
    key, given, path = entry.rpartition("=")
    folder = Path(path).expanduser()
    if not given:
        whole = folder.resolve()
        key = whole.parent.name if whole.name == "adapter" else whole.name
    if not _NAME.fullmatch(key):
        raise SettingsError(f"{key!r} cannot be a model's name.", place=entry, mend="Give it one: NAME=DIR.")
    return key, folder


def _twice(name: str, option: str) -> SettingsError:
    return SettingsError(f"The name {name!r} is there twice.", place=option, mend="Give another: NAME=DIR.")
