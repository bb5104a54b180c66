"""How adapters get into vLLM: as its LoRA where that is sure to do what training did, else merged beforehand.

vLLM applies LoRA to the language model. That its routed experts come out right is not known, and the encoder is
left out without a word; so an adapter that has parts there (the default recipe has) is merged into the base's
weights, once, and the merged folder is kept in the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ocrsmith.engines.native.engine import folder_hash
from ocrsmith.errors import AdapterError, SettingsError
from ocrsmith.export.card import CardFacts
from ocrsmith.export.merge import Merge, MergeProgress
from ocrsmith.export.model import Check, export_merged
from ocrsmith.model.adapter_files import CONFIG_FILE
from ocrsmith.model.lora import DECODING_FILE
from ocrsmith.model.processing import SETTINGS_FILE
from ocrsmith.settings.files import writing
from ocrsmith.settings.provenance import file_sha256

_PLAIN = re.compile(r"model\.layers\.\d+\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)")
"""Linears that vLLM's LoRA is sure to reach."""
_LAYOUT = "1"
"""Counted up when merged folders come out otherwise, so that older ones are not used."""

Tell = Callable[[str], None]
FindCheck = Callable[[Path], Check | None]
"""Gives the pages to verify a merged adapter on, None where there are none."""


@dataclass(frozen=True)
class Placed:
    """What vLLM is started with."""

    folder: Path
    """Of the model."""
    name: str
    """What clients ask the model for."""
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """For vLLM's LoRA, by name."""
    rank: int = 0
    """The largest among them."""
    merged: Path | None = None
    """The adapter that is in the folder's weights."""


def adapter_folder(path: Path) -> Path:
    """The adapter in a run folder, or the folder itself.

    Raises:
        AdapterError: there is none.
    """
    for folder in (path / "adapter", path):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise AdapterError(
        f"There is no adapter in {path.name!r}: {CONFIG_FILE} is missing.",
        place=str(path),
        mend="Give the folder that training wrote: RUN or RUN/adapter.",
    )


def place_adapters(
    base: Path,
    name: str,
    adapters: Mapping[str, Path],
    *,
    check: FindCheck = lambda adapter: None,
    progress: MergeProgress | None = None,
    tell: Tell = lambda line: None,
) -> Placed:
    """Decides how each adapter is served, and merges where that is the way.

    Args:
        base: folder of the model.
        name: what clients ask the base for.
        adapters: folders by the names that clients ask for.
        check: see `FindCheck`.
        progress: is told of each merged tensor.
        tell: gets a line on the way that was taken.

    Raises:
        AdapterError: one is damaged, of another kind, or of another base.
        SettingsError: several adapters, and one of them has to be merged.
        OutputError: the cache cannot be written.
    """
    plans = {key: Merge.plan(base, folder) for key, folder in adapters.items()}
    odd = {key: found for key, plan in plans.items() if (found := _beyond_lora(plan))}
    if not odd:
        if adapters:
            tell(f"{', '.join(adapters)}: by vLLM's LoRA, beside {name}.")
        rank = max((a.shape[0] for plan in plans.values() for a, _ in plan.pairs.values()), default=0)
        return Placed(base, name, dict(adapters), rank)
    key, part = next(iter(odd.items()))
    if len(adapters) > 1:
        raise SettingsError(
            f"vLLM takes several adapters only as LoRA, and {key!r} acts on {part}, which that does not reach.",
            place="--adapter",
            mend="Merge each with `ocrsmith export` and serve one each, or serve all with --engine native.",
        )
    del plans
    folder = merged_folder(base, adapters[key], check=check, progress=progress, tell=tell)
    tell(f"{key}: merged into the weights, since it acts on {part}, which vLLM's LoRA does not reach for sure.")
    return Placed(folder, key, merged=adapters[key])


def fits_lora(base: Path, adapter: Path) -> bool:
    """Whether vLLM's LoRA does what the adapter was trained to do. Raises as `Merge.plan`."""
    return _beyond_lora(Merge.plan(base, adapter)) is None


def _beyond_lora(plan: Merge) -> str | None:
    """A part that an adapter acts on and that vLLM's LoRA may miss."""
    return next((place.hub_module for place in plan.pairs if not _PLAIN.fullmatch(place.hub_module)), None)


def cache_folder() -> Path:
    """`merged` in `$OCRSMITH_CACHE`, else in `$XDG_CACHE_HOME/ocrsmith`, else in `~/.cache/ocrsmith`."""
    if chosen := os.environ.get("OCRSMITH_CACHE"):
        return Path(chosen).expanduser() / "merged"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "ocrsmith" / "merged"


def merged_folder(
    base: Path,
    adapter: Path,
    *,
    check: FindCheck = lambda adapter: None,
    progress: MergeProgress | None = None,
    tell: Tell = lambda line: None,
) -> Path:
    """The base with the adapter merged in: from the cache, or made there, complete or not at all.

    Raises:
        AdapterError: what was merged is not what the adapter does; see also `Merge.plan`.
        OutputError: the cache cannot be written.
    """
    folder = cache_folder() / _key(base, adapter)
    with _alone(folder):
        if folder.is_dir():
            tell(f"Merged before: {folder}")
            return folder
        pages = check(adapter)
        how = "and verifying it" if pages else "without verification (`ocrsmith export` verifies)"
        tell(f"Merging {adapter.parent.name if adapter.name == 'adapter' else adapter.name} {how}: {folder}")
        facts = CardFacts(adapter.name, base.name, notes=("Merged by `ocrsmith serve`.",))
        export_merged(str(base), adapter, folder, facts=facts, check=pages, progress=progress)
    return folder


def _key(base: Path, adapter: Path) -> str:
    """Names a merged model: by the content of all that goes into it."""
    total = hashlib.sha256(f"{_LAYOUT} {folder_hash(base)} {folder_hash(adapter)}\n".encode())
    for folder in (base, adapter):
        for name in (SETTINGS_FILE, DECODING_FILE):
            file = folder / name
            total.update(f"{name} {file_sha256(file) if file.is_file() else ''}\n".encode())
    return total.hexdigest()[:32]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other servers from merging the same at the same time."""
    import fcntl  # not on Windows, where there is no vLLM either

    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.with_suffix(".lock").open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
