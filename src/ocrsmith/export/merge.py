"""Adds an adapter to a base's weights from file to file: one matrix at a time, in float32.

No model is ever in memory, so that a laptop merges what a large card trained. The result is what
`W + alpha / r · B A` rounds to in 16 bits, once (LoRA: Hu et al. 2021, section 4.1). It is made from the base's
original weights also where the adapter was trained on a base in four bits (QLoRA: Dettmers et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ocrsmith.errors import AdapterError, SettingsError, WeightsError
from ocrsmith.export.folder import vllm_config
from ocrsmith.model import adapter_files
from ocrsmith.model.adapter_names import Place
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.lora import check_recorded_base
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.quantized import FingerprintSketch
from ocrsmith.model.weights import (
    HubName,
    StoredTensor,
    TensorPlan,
    check_fit,
    read_config,
    read_into,
    stored_tensors,
    write_config,
    write_shards,
)

MergeProgress = Callable[[int, int], None]
"""Called with (tensors written, tensors in all)."""

DTYPES: Mapping[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Merge:
    """A base and an adapter that fit; nothing is read yet but headers and the adapter."""

    base: Path
    config: OcrConfig
    tensors: Mapping[str, StoredTensor]
    """The base's, by hub name."""
    pairs: adapter_files.Pairs
    """The adapter's A (r, in) and B (out, r); empty: the base as it is."""
    scales: Mapping[Place, float]

    @classmethod
    def plan(cls, base: Path, adapter: Path | None) -> Merge:
        """Reads what is needed to know that the two fit.

        Args:
            base: a model folder in hub layout, 16 or 32 bits.
            adapter: an adapter folder; None: the base alone is written.

        Raises:
            WeightsError: the base is missing, damaged, or no DeepSeek-OCR model.
            AdapterError: the adapter is missing, damaged, of another kind, or of another base.
        """
        config = read_config(base)
        tensors = stored_tensors(base)
        with torch.device("meta"):
            model = OcrModel(config)
        check_fit(model, tensors, base)
        if adapter is None:
            return cls(base, config, tensors, {}, {})
        saved = adapter_files.read_config(adapter)
        pairs = adapter_files.read_pairs(adapter)
        adapter_files.check_fit(pairs, dict(model.named_modules()), adapter)
        check_recorded_base(adapter, lambda: _fingerprint(model, tensors))
        scales = {}
        for place, (a, _) in pairs.items():
            rank, alpha = adapter_files.rank_and_alpha(saved, place, a.shape[0], adapter)
            scales[place] = alpha / rank
        return cls(base, config, tensors, pairs, scales)

    @property
    def changed(self) -> tuple[str, ...]:
        """Hub names of the tensors that the adapter changes."""
        return tuple(name for name in self.tensors if _place(name) in self.pairs)

    def write(self, folder: Path, *, dtype: str = "auto", progress: MergeProgress | None = None) -> torch.dtype:
        """Writes `config.json` and `model.safetensors` (or shards with an index).

        Args:
            folder: an empty folder of the caller's; files get their last names at once.
            dtype: bfloat16, float16, or auto: the base's where that has 16 bits, else bfloat16.
            progress: is told after each tensor.

        Returns:
            The dtype written.

        Raises:
            SettingsError: no such dtype.
            AdapterError: a merged weight is not finite, or too large for the dtype.
            WeightsError: a file of the base ends early.
        """
        kind = self._dtype(dtype)
        plans = [TensorPlan(name, kind, stored.shape) for name, stored in self._in_file_order()]
        done = 0
        with ExitStack() as files:
            streams: dict[Path, BinaryIO] = {}

            def tensor_of(name: str) -> Tensor:
                nonlocal done
                stored = self.tensors[name]
                if stored.file not in streams:
                    streams[stored.file] = files.enter_context(stored.file.open("rb", buffering=0))
                tensor = self._merged(name, streams[stored.file], kind)
                done += 1
                if progress:
                    progress(done, len(plans))
                return tensor

            write_shards(folder, plans, tensor_of)
        write_config(folder, vllm_config(self.config, kind))
        return kind

    def _in_file_order(self) -> list[tuple[str, StoredTensor]]:
        return sorted(self.tensors.items(), key=lambda item: (item[1].file, item[1].start))

    def _dtype(self, name: str) -> torch.dtype:
        if name == "auto":
            present = {stored.dtype for stored in self.tensors.values()}
            return next((dtype for dtype in DTYPES.values() if present == {dtype}), torch.bfloat16)
        if name not in DTYPES:
            known = ", ".join(("auto", *DTYPES))
            raise SettingsError(
                f"There is no dtype {name!r} to merge into.", place="--dtype", mend=f"Use {known}."
            )
        return DTYPES[name]

    def _merged(self, name: str, stream: BinaryIO, dtype: torch.dtype) -> Tensor:
        stored = self.tensors[name]
        tensor = torch.empty(stored.shape, dtype=stored.dtype)
        read_into(stream, stored, tensor)
        place = _place(name)
        if place is not None and place in self.pairs:
            a, b = self.pairs[place]
            tensor = torch.addmm(tensor.float(), b.float(), a.float(), alpha=self.scales[place])
        result = tensor.to(dtype)
        if not torch.isfinite(result).all():
            self._refuse(name, tensor, dtype)
        return result

    def _refuse(self, name: str, tensor: Tensor, dtype: torch.dtype) -> None:
        kind = str(dtype).removeprefix("torch.")
        if torch.isfinite(tensor).all():
            raise SettingsError(
                f"{name} reaches {float(tensor.abs().max()):.3g}, too large for {kind}.",
                place="--dtype",
                mend="Use --dtype bfloat16.",
            )
        if _place(name) in self.pairs:
            raise AdapterError(
                f"Merged with the adapter, {name} is not finite.", mend="use an earlier checkpoint of the run"
            )
        raise WeightsError(f"{name} is not finite.", place=str(self.base), mend="download the base again")


def _place(name: str) -> Place | None:
    """Where an adapter would act on a tensor of the base; None for biases and tables."""
    return Place.parse(name.removesuffix(".weight")) if name.endswith(".weight") else None


def _fingerprint(model: OcrModel, tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """The base's fingerprint, from the few tensors of the files that count for it."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    sketch = FingerprintSketch(shapes)
    parts: dict[str, list[tuple[HubName, StoredTensor]]] = {}
    for name, stored in tensors.items():
        hub = HubName.parse(name)
        parts.setdefault(hub.parameter, []).append((hub, stored))
    for name in sketch.wanted:
        dense = torch.empty(shapes[name], dtype=parts[name][0][1].dtype)
        for hub, stored in parts[name]:
            with stored.file.open("rb", buffering=0) as stream:
                read_into(stream, stored, hub.of(dense))
        sketch.add(name, dense)
    return sketch.fingerprint()
