"""Checkpoints in hub layout: names, streaming in and out.

The hub stores a matrix an expert (`…mlp.experts.3.gate_proj.weight`), the model one tensor for all experts of a
layer (`…mlp.experts.gate_proj`, the expert is its first index). All other names are the same. `HubName` is that
table, in both directions.

Tensors are read straight into the model's memory, one after another, without mapping the file: the peak is the
model in its target dtype plus one tensor.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor
from transformers import GenerationConfig

from ocrsmith.errors import OutputError, WeightsError
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel

if TYPE_CHECKING:
    from ocrsmith.model.processing import OcrProcessor

NANO_FOLDER = Path(__file__).parent.parent / "nano" / "weights"
MAX_SHARD_BYTES = 10 * 2**30
"""The 3B checkpoint is one file of 6.7 GB on the hub, so it is one here."""

_EXPERT = re.compile(r"^(.*\.mlp\.experts)\.(\d+)\.(gate_proj|up_proj|down_proj)\.weight$")
_FUSED = re.compile(r"^(.*\.mlp\.experts)\.(gate_proj|up_proj|down_proj)$")

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


# --- names ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HubName:
    """Where a hub tensor lives in the model: a parameter's name, and the expert's index where it is a slice."""

    parameter: str
    expert: int | None = None

    @classmethod
    def parse(cls, name: str) -> HubName:
        match = _EXPERT.match(name)
        return cls(f"{match[1]}.{match[3]}", int(match[2])) if match else cls(name)

    def of(self, tensor: Tensor) -> Tensor:
        """This hub tensor as a view of the model's parameter."""
        return tensor if self.expert is None else tensor[self.expert]


def hub_tensors(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The model's state under hub names; fused experts come one by one, as views."""
    for name, tensor in state.items():
        match = _FUSED.match(name)
        if match is None:
            yield name, tensor
            continue
        for expert in range(tensor.shape[0]):
            yield f"{match[1]}.{expert}.{match[2]}.weight", tensor[expert]


# --- reading -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's place in a safetensors file."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """First byte in the file."""
    size: int
    """Bytes."""


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Reads a safetensors file's header: eight bytes of length, then JSON (huggingface/safetensors, "Format")."""
    mend = "download the file again; it is not a complete safetensors file"
    total = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(total - 8, 100 * 2**20):
            raise WeightsError(f"{file.name} is not a safetensors file ({total} bytes).", place=str(file), mend=mend)
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise WeightsError(f"{file.name} has a broken header: {error}.", place=str(file), mend=mend) from error
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in DTYPES:
            raise WeightsError(f"{name} is stored as {entry['dtype']}, which is not supported.", place=str(file))
        begin, end = entry["data_offsets"]
        stored = StoredTensor(file, DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + length + begin, end - begin)
        if 8 + length + end > total:
            raise WeightsError(f"{file.name} ends inside the tensor {name}.", place=str(file), mend=mend)
        tensors[name] = stored
    return tensors


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a model folder, through its index file where it has one."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        missing = [name for name in names if not (folder / name).exists()]
        if missing:
            raise WeightsError(
                f"The index names {', '.join(missing)}, which is not there.",
                place=str(index),
                mend="download the missing files",
            )
        files = [folder / name for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise WeightsError(
            f"No *.safetensors file in {folder} (found: {found}).",
            place=str(folder),
            mend="give a model folder in hub layout: config.json, tokenizer.json, model*.safetensors",
        )
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        tensors.update(read_header(file))
    return tensors


def read_into(stream: BinaryIO, stored: StoredTensor, target: Tensor) -> None:
    """Reads a stored tensor into `target` (same shape), converting the dtype where they differ."""
    direct = target.device.type == "cpu" and target.dtype == stored.dtype and target.is_contiguous()
    buffer = target if direct else torch.empty(stored.shape, dtype=stored.dtype)
    if stored.size:
        stream.seek(stored.start)
        raw = memoryview(buffer.view(-1).view(torch.uint8).numpy())
        if stream.readinto(raw) != stored.size:  # type: ignore[attr-defined]
            raise WeightsError(f"{stored.file.name} ended while it was read.", place=str(stored.file))
    if not direct:
        target.copy_(buffer)


def fill(model: OcrModel, tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    """Reads all weights into the model, after checking that names and shapes map one to one."""
    state = model.state_dict()
    expected = dict(hub_tensors(state))
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    missing = sorted(set(shapes) - set(tensors))
    unexpected = sorted(set(tensors) - set(shapes))
    misshaped = [
        f"{name} {tensors[name].shape} (config says {shapes[name]})"
        for name in sorted(set(shapes) & set(tensors))
        if tensors[name].shape != shapes[name]
    ]
    if missing or unexpected or misshaped:
        parts = [
            f"{len(names)} {kind}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
            for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
            if names
        ]
        raise WeightsError(
            "The weights do not fit the config. " + "; ".join(parts) + ".",
            place=str(folder),
            mend="use the config.json that belongs to these weights",
        )
    by_file: dict[Path, list[str]] = {}
    for name, stored in tensors.items():
        by_file.setdefault(stored.file, []).append(name)
    for file, names in by_file.items():
        with file.open("rb", buffering=0) as stream:
            for name in sorted(names, key=lambda name: tensors[name].start):
                read_into(stream, tensors[name], expected[name])


def read_config(folder: Path) -> OcrConfig:
    """Reads `config.json`, with an error that says what is wrong with it."""
    file = folder / "config.json"
    if not file.exists():
        raise WeightsError(
            f"{folder} has no config.json.", place=str(folder), mend="give a model folder in hub layout"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"config.json is not JSON: {error}.", place=str(file)) from error
    if "language_config" not in values or "vision_config" not in values:
        raise WeightsError(
            f"config.json describes a {values.get('model_type', 'model')!r}, not a DeepSeek-OCR model "
            "(language_config and vision_config are missing).",
            place=str(file),
            mend="use deepseek-ai/DeepSeek-OCR, a folder in its layout, or nano",
        )
    return OcrConfig.from_dict(values)


def load_model(name: str, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> OcrModel:
    """Loads a model for inference or training.

    Args:
        name: "nano", a folder in hub layout, or a hub id.
        dtype: of the weights in memory.
        device: where they are put; tensors go there one at a time.
    Errors:
        WeightsError: files missing or broken; tensors missing, unexpected or misshaped (listed).
    """
    folder = resolve_model(name)
    config = read_config(folder)
    tensors = stored_tensors(folder)
    with torch.device("meta"):
        model = OcrModel(config)
    model = model.to(dtype).to_empty(device=device)
    fill(model, tensors, folder)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.config.dtype = dtype
    model.name_or_path = name
    return model.eval()


def load_processor(name: str) -> OcrProcessor:
    """The processor of a model: "nano", a folder in hub layout, or a hub id."""
    from ocrsmith.model.processing import OcrProcessor

    return OcrProcessor.from_pretrained(resolve_model(name))


def resolve_model(name: str) -> Path:
    """The folder of a model: "nano" is bundled, a folder is itself, anything of the form owner/name is a hub id."""
    if name == "nano":
        return NANO_FOLDER
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise WeightsError(
            f"{name} is a file, not a model folder.", place=name, mend="give the folder that holds config.json"
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise WeightsError(
            f"No model {name!r}: it is no folder and no hub id.",
            place=name,
            mend='use "nano", a folder in hub layout, or a hub id such as deepseek-ai/DeepSeek-OCR',
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # the hub client's errors share no base; all mean: not to be had
        raise WeightsError(
            f"The model {name!r} could not be fetched from the hub ({type(error).__name__}).",
            place=name,
            mend="check the name and the network, or download the folder and give its path",
        ) from error


# --- writing -------------------------------------------------------------------------------------------------


def save_model(
    model: OcrModel, folder: str | PathLike[str], *, state_dict: Mapping[str, Tensor] | None = None
) -> None:
    """Writes a model folder in hub layout: `config.json`, `generation_config.json`, `model.safetensors`.

    Files are written under temporary names and renamed when complete.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        tensors = list(hub_tensors(state_dict if state_dict is not None else model.state_dict()))
        scratch = Path(tempfile.mkdtemp(prefix=".saving-", dir=target))
        try:
            _write_shards(scratch, tensors)
            config = model.config.to_dict()
            config.update(architectures=["DeepseekOCRForCausalLM"], model_type="deepseek_vl_v2")
            (scratch / "config.json").write_text(json.dumps(config, indent=2, default=_plain) + "\n")
            if model.generation_config is not None:
                model.generation_config.save_pretrained(scratch)
            for file in sorted(scratch.iterdir()):
                os.replace(file, target / file.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"The model could not be written: {error.strerror or error}.",
            place=str(target),
            mend="free disk space or choose a folder you may write to",
        ) from error


def _plain(value: Any) -> str:
    return str(value).removeprefix("torch.")


def _write_shards(folder: Path, tensors: list[tuple[str, Tensor]]) -> None:
    shards: list[list[tuple[str, Tensor]]] = [[]]
    filled = 0
    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if shards[-1] and filled + size > MAX_SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append((name, tensor))
        filled += size
    if len(shards) == 1:
        write_safetensors(folder / "model.safetensors", shards[0])
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, shard)
        weight_map.update(dict.fromkeys((name for name, _ in shard), file))
    total = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_safetensors(file: Path, tensors: list[tuple[str, Tensor]]) -> None:
    """Writes tensors one after another; the safetensors library would want slices of fused experts copied first."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # the format keeps the data aligned to eight bytes
    with file.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little"))
        stream.write(encoded)
        for _, tensor in tensors:
            flat = tensor.detach().cpu().contiguous().view(-1)
            stream.write(memoryview(flat.view(torch.uint8).numpy()))
