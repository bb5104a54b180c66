"""Exports: a merged model that vLLM loads, or the adapter for those who load it on the base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.engine import saved_decoding
from ocrsmith.errors import AdapterError
from ocrsmith.export.card import CardFacts, render
from ocrsmith.export.contents import CARD, VERIFICATION_FILE, write_origin
from ocrsmith.export.folder import adapter_notes, complete_folder, vllm_notes
from ocrsmith.export.merge import Merge, MergeProgress
from ocrsmith.export.verify import Score, Verification, VerifiedPage, verify
from ocrsmith.model import adapter_files
from ocrsmith.model.lora import BASE_FILE, DECODING_FILE
from ocrsmith.model.processing import SETTINGS_FILE, OcrProcessor
from ocrsmith.model.weights import resolve_model
from ocrsmith.settings.files import new_folder, write_text

_COPIED = (adapter_files.WEIGHTS_FILE, DECODING_FILE, SETTINGS_FILE)
_NAMING_THE_BASE = {adapter_files.CONFIG_FILE: "base_model_name_or_path", BASE_FILE: "name"}
"""An adapter's files that name its base, and where: the folders of this machine are nobody else's business."""


@dataclass(frozen=True)
class Check:
    """What a merged model is verified on, and where."""

    pages: Sequence[VerifiedPage]
    score: Score
    device: torch.device
    dtype: torch.dtype
    max_new_tokens: int
    """Longest answer of a page: a bound on the time that verification takes."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    out: Path
    dtype: str
    changed: int
    """Tensors that the adapter changed."""
    verification: Verification | None


def export_merged(
    base: str,
    adapter: Path | None,
    out: Path,
    *,
    facts: CardFacts,
    check: Check | None,
    dtype: str = "auto",
    progress: MergeProgress | None = None,
    verifying: Callable[[], None] | None = None,
) -> Exported:
    """Writes a folder of 16-bit weights in hub layout, complete and verified or not at all.

    Args:
        base: nano, a folder, or a hub id.
        adapter: its folder; None: the base alone, made ready for vLLM.
        out: the folder to write; an older one is replaced as a whole.
        facts: what the card says; dtype, decoding, prompt, notes and verification are filled in here.
        check: None: not verified, and the card says so.
        dtype: see `Merge.write`.
        progress: is told after each tensor.
        verifying: called when the weights are written and verification begins.

    Raises:
        WeightsError, AdapterError, SettingsError: base or adapter cannot be used, or do not fit.
        AdapterError: what was merged is not what the adapter does; says in which figure.
        OutputError: `out` cannot be written.
    """
    folder = resolve_model(base)
    plan = Merge.plan(folder, adapter)
    processor, decoding = saved_settings(folder, adapter)
    with new_folder(out) as scratch:
        written = plan.write(scratch, dtype=dtype, progress=progress)
        complete_folder(scratch, processor, decoding)
        result = None
        if adapter is not None and check is not None:
            if verifying:
                verifying()
            result = _verified(base, adapter, scratch, check, decoding)
            write_text(scratch / VERIFICATION_FILE, json.dumps(result.to_json(), indent=2) + "\n")
        told = replace(
            facts,
            adapter=adapter is not None,
            dtype=str(written).removeprefix("torch."),
            verification=result,
            notes=(*facts.notes, *vllm_notes(processor)),
        )
        _tell(scratch, told, processor, decoding)
    return Exported(out, told.dtype, len(plan.changed), result)


def export_adapter(base: str, adapter: Path, out: Path, *, facts: CardFacts) -> Exported:
    """Copies an adapter for PEFT, Unsloth and vLLM: safetensors and JSON alone, names and shapes checked.

    Raises:
        AdapterError: it is missing, damaged, of another base, or has names that the hub's code does not have.
        OutputError: `out` cannot be written.
    """
    plan = Merge.plan(resolve_model(base), adapter)
    processor, decoding = saved_settings(resolve_model(base), adapter)
    with new_folder(out) as scratch:
        for name in _COPIED:
            if (adapter / name).is_file():
                shutil.copyfile(adapter / name, scratch / name)
        for name, key in _NAMING_THE_BASE.items():
            if (adapter / name).is_file():
                values = json.loads((adapter / name).read_text(encoding="utf-8"))
                write_text(scratch / name, json.dumps({**values, key: facts.base}, indent=2) + "\n")
        processor.save_pretrained(scratch)
        notes = (*facts.notes, *adapter_notes(plan.pairs))
        told = replace(facts, adapter=True, merged=False, notes=notes)
        _tell(scratch, told, processor, decoding)
    return Exported(out, "adapter", len(plan.changed), None)


def _tell(folder: Path, facts: CardFacts, processor: OcrProcessor, decoding: DecodingSettings) -> None:
    """Writes the card, and what the export was made of."""
    settings = processor.settings
    told = replace(facts, prompt=settings.prompt, mode=settings.mode, decoding=decoding)
    write_text(folder / CARD, render(told))
    write_origin(folder, told)


def saved_settings(base: Path, adapter: Path | None) -> tuple[OcrProcessor, DecodingSettings]:
    """Processing and decoding as saved with the adapter, else with the base, else the defaults."""
    places = [place for place in (adapter, base) if place is not None]
    source = next((place for place in places if (place / SETTINGS_FILE).is_file()), base)
    return OcrProcessor.from_pretrained(source), saved_decoding(places, None)


def _verified(base: str, adapter: Path, merged: Path, check: Check, decoding: DecodingSettings) -> Verification:
    limited = decoding.model_copy(update={"max_new_tokens": min(check.max_new_tokens, decoding.max_new_tokens)})
    result = verify(
        base,
        adapter,
        merged,
        check.pages,
        check.score,
        device=check.device,
        dtype=check.dtype,
        decoding=limited,
    )
    if result.problems:
        raise AdapterError(
            f"The merged model is not what the adapter makes of the base: {'; '.join(result.problems)}.",
            place=str(adapter),
            mend="Nothing was written. Train with another precision, or export the adapter (--to adapter).",
        )
    return result
