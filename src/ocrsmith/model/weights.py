"""Checkpoints in hub layout: names, streaming in and out.

The hub stores a matrix an expert (`…mlp.experts.3.gate_proj.weight`), the model one tensor for all experts of a
layer (`…mlp.experts.gate_proj`, the expert is its first index). All other names are the same. `HubName` is that
table, in both directions.

Tensors are read straight into the model's memory, one after another, without mapping the file: the peak is the
model in its target dtype plus one tensor. A base in NF4 is quantised on the way: the device never holds more
than the quantised model and one dense tensor.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig

from ocrsmith.errors import OutputError, SettingsError, WeightsError
from ocrsmith.model import nf4
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.quantized import FingerprintSketch, hollow_model, refuse_save

if TYPE_CHECKING:
    from ocrsmith.model.processing import OcrProcessor

NANO_FOLDER = Path(__file__).parent.parent / "nano" / "weights"
MAX_SHARD_BYTES = 10 * 2**30
"""The 3B checkpoint is one file of 6.7 GB on the hub, so it is one here."""

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_WEIGHTS_FILE = re.compile(r"^model(-\d+-of-\d+)?\.safetensors(\.index\.json)?$")

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
    """Reads a safetensors file's header: eight bytes of length, then JSON (huggingface/safetensors, "Format").

    Errors:
        WeightsError: the file is cut off, or no safetensors file.
    """
    total = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(total - 8, 100 * 2**20):
            raise _broken(file, f"is not a safetensors file ({total} bytes)")
        try:
            header = dict(json.loads(stream.read(length)))
        except (ValueError, TypeError) as error:
            raise _broken(file, f"has a broken header: {error}") from error
    header.pop("__metadata__", None)
    return {name: _entry(file, name, entry, 8 + length, total) for name, entry in header.items()}


def _entry(file: Path, name: str, entry: Any, data: int, total: int) -> StoredTensor:
    """One tensor's line of the header; `data` is where the tensors begin in a file of `total` bytes."""
    try:
        kind, shape = entry["dtype"], tuple(int(side) for side in entry["shape"])
        begin, end = (int(offset) for offset in entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(file, f"has a broken header at {name}") from error
    if kind not in DTYPES:
        raise WeightsError(
            f"{name} is stored as {kind}, which is not supported.",
            place=str(file),
            mend="use weights in bfloat16, float16 or float32, not quantised ones",
        )
    if begin < 0 or end - begin != math.prod(shape) * DTYPES[kind].itemsize:
        raise _broken(file, f"gives {name} {end - begin} bytes, which is not its shape {shape} in {kind}")
    if data + end > total:
        raise _broken(file, f"ends inside the tensor {name}")
    return StoredTensor(file, DTYPES[kind], shape, data + begin, end - begin)


def _broken(file: Path, how: str) -> WeightsError:
    return WeightsError(
        f"{file.name} {how}.",
        place=str(file),
        mend="download the file again; it is not a complete safetensors file",
    )


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a model folder: of `model.safetensors`, or of the shards that the index file names."""
    if (folder / SINGLE).exists():
        return read_header(folder / SINGLE)
    files = _indexed(folder / INDEX) if (folder / INDEX).exists() else sorted(folder.glob("*.safetensors"))
    if not files:
        found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise WeightsError(
            f"No *.safetensors file in {folder} (found: {found}).",
            place=str(folder),
            mend="give a model folder in hub layout: config.json, tokenizer.json, model*.safetensors",
        )
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        header = read_header(file)
        if twice := sorted(tensors.keys() & header.keys()):
            raise WeightsError(
                f"{file.name} holds {len(twice)} tensors that {tensors[twice[0]].file.name} holds too, such as "
                f"{twice[0]}.",
                place=str(folder),
                mend="keep one set of weights in the folder",
            )
        tensors.update(header)
    return tensors


def _indexed(index: Path) -> list[Path]:
    """The shards that an index file names."""
    try:
        names = sorted(
            {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{index.name} is not an index of shards ({type(error).__name__}: {error}).",
            place=str(index),
            mend="download the file again",
        ) from error
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing:
        raise WeightsError(
            f"The index names {', '.join(missing)}, which is not there.",
            place=str(index),
            mend="download the missing files",
        )
    return [index.parent / name for name in names]


def read_into(stream: BinaryIO, stored: StoredTensor, target: Tensor) -> None:
    """Reads a stored tensor into `target` (same shape), converting the dtype where they differ."""
    direct = target.device.type == "cpu" and target.dtype == stored.dtype and target.is_contiguous()
    buffer = target if direct else torch.empty(stored.shape, dtype=stored.dtype)
    raw = buffer.view(-1).view(torch.uint8).numpy().data
    stream.seek(stored.start)
    done = 0
    while done < stored.size:  # one read hands over 2 GiB at most
        count = stream.readinto(raw[done:])  # type: ignore[attr-defined]
        if not count:
            raise _broken(stored.file, "ended while it was read")
        done += count
    if not direct:
        target.copy_(buffer)


def check_fit(model: OcrModel, tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    """Checks that names and shapes map one to one; `model` may be on the meta device.

    Errors:
        WeightsError: lists missing, unexpected and misshaped tensors, eight of each at most.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in hub_tensors(model.state_dict())}
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


def fill(model: OcrModel, tensors: Mapping[str, StoredTensor]) -> None:
    """Reads all weights into the model, file by file from front to back."""
    targets = dict(hub_tensors(model.state_dict()))
    by_file: dict[Path, list[str]] = {}
    for name, stored in tensors.items():
        by_file.setdefault(stored.file, []).append(name)
    for file, names in by_file.items():
        with file.open("rb", buffering=0) as stream:
            for name in sorted(names, key=lambda name: tensors[name].start):
                read_into(stream, tensors[name], targets[name])


def fill_quantized(
    model: OcrModel, tensors: Mapping[str, StoredTensor], dtype: torch.dtype, device: str | torch.device
) -> OcrModel:
    """Makes a model on the meta device a quantised one with these weights, a parameter at a time.

    Stored values are quantised as they are, whatever the compute dtype, so that all trainings of a base share
    one set of codes.

    Args:
        model: on the meta device, as its config makes it.
        tensors: what `check_fit` approved.
        dtype: of what is not quantised, and of the arithmetic.
        device: where the model is put, and where weights are quantised.
    Raises:
        WeightsError: a value is not finite; the file ends early.
    """
    sketch = FingerprintSketch({name: tuple(p.shape) for name, p in model.named_parameters()})
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    packed = hollow_model(model)
    model = nn.Module.to(model, dtype).to_empty(device=device)
    targets = model.state_dict()
    parts: dict[str, list[tuple[HubName, StoredTensor]]] = {}
    for name, stored in sorted(tensors.items(), key=lambda item: (item[1].file, item[1].start)):
        hub = HubName.parse(name)
        parts.setdefault(hub.parameter, []).append((hub, stored))
    with ExitStack() as files:
        streams: dict[Path, BinaryIO] = {}
        for name, pieces in parts.items():
            dense = torch.empty(shapes[name], dtype=pieces[0][1].dtype)
            for hub, stored in pieces:
                if stored.file not in streams:
                    streams[stored.file] = files.enter_context(stored.file.open("rb", buffering=0))
                read_into(streams[stored.file], stored, hub.of(dense))
            sketch.add(name, dense)
            if name in packed:
                packed[name].store(nf4.quantize(dense.to(device), place=f"{pieces[0][1].file}: {name}"))
            else:
                targets[name].copy_(dense)
    sketch.carry(model)
    return model


def read_config(folder: Path) -> OcrConfig:
    """Reads `config.json`, with an error that says what is wrong with it."""
    file = folder / "config.json"
    if not file.exists():
        raise WeightsError(
            f"{folder} has no config.json.", place=str(folder), mend="give a model folder in hub layout"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("it is not a JSON object")
        foreign = "language_config" not in values or "vision_config" not in values
        config = None if foreign else OcrConfig.from_dict(values)
    except WeightsError as error:
        raise WeightsError(error.problem, place=str(file), mend=error.mend) from error
    except Exception as error:  # not JSON, not an object, or a value that transformers' validation refuses
        raise WeightsError(
            f"config.json cannot be read as a model's config: {' '.join(str(error).split())}.",
            place=str(file),
            mend="use the config.json that came with the weights",
        ) from error
    if config is None:
        raise WeightsError(
            f"config.json describes a {values.get('model_type', 'model')!r}, not a DeepSeek-OCR model "
            "(language_config and vision_config are missing).",
            place=str(file),
            mend="use deepseek-ai/DeepSeek-OCR, a folder in its layout, or nano",
        )
    return config


def load_model(
    name: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantization: Literal["none", "nf4"] = "none",
) -> OcrModel:
    """Loads a model for inference or training.

    Args:
        name: "nano", a folder in hub layout, or a hub id.
        dtype: of the weights in memory.
        device: where they are put; tensors go there one at a time.
        quantization: nf4 packs the decoder's projections into four bits (see `quantized.py`), frozen: for
            training an adapter on a small card.
    Errors:
        WeightsError: files missing or broken; tensors missing, unexpected or misshaped (listed).
        SettingsError: no such quantization.
    """
    if quantization not in ("none", "nf4"):
        raise SettingsError(
            f"There is no quantization {quantization!r}.", place="quantization", mend="use none or nf4"
        )
    folder = resolve_model(name)
    try:
        config = read_config(folder)
        tensors = stored_tensors(folder)
        with torch.device("meta"):
            model = OcrModel(config)
        check_fit(model, tensors, folder)
        if quantization == "nf4":
            model = fill_quantized(model, tensors, dtype, device)
        else:
            model = nn.Module.to(model, dtype).to_empty(device=device)
            fill(model, tensors)
    except OSError as error:
        raise WeightsError(
            f"The model cannot be read: {error.strerror or error}.",
            place=str(error.filename or folder),
            mend="check that the file is whole and that you may read it",
        ) from error
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
    """The folder of a model: "nano" is bundled, a folder is itself, owner/name is a hub id."""
    if name == "nano":
        return NANO_FOLDER
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise WeightsError(
            f"{name} is a file, not a model folder.",
            place=name,
            mend="give the folder that holds config.json",
        )
    if name.startswith((".", "~")) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
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
            mend="check the name and the network, or give the path of a folder that holds the model",
        ) from error


# --- writing -------------------------------------------------------------------------------------------------


def save_model(
    model: OcrModel, folder: str | PathLike[str], *, state_dict: Mapping[str, Tensor] | None = None
) -> None:
    """Writes a model folder in hub layout: `config.json`, `generation_config.json`, `model.safetensors`.

    Files are written under temporary names and renamed when complete; then weights that the folder held before
    under other names (shards) go.

    Errors:
        OutputError: no permission, disk full; the model is quantised.
    """
    target = Path(folder)
    refuse_save(model, str(target))
    try:
        target.mkdir(parents=True, exist_ok=True)
        tensors = list(hub_tensors(state_dict if state_dict is not None else model.state_dict()))
        scratch = Path(tempfile.mkdtemp(prefix=".saving-", dir=target))
        try:
            write_shards(scratch, [_plan(*item) for item in tensors], dict(tensors).__getitem__)
            write_config(scratch, model.config)
            if model.generation_config is not None:
                model.generation_config.save_pretrained(scratch)
            written = sorted(scratch.iterdir())
            for file in written:
                os.replace(file, target / file.name)
            for file in target.iterdir():  # weights of an earlier save under other names would be read instead
                if _WEIGHTS_FILE.match(file.name) and file.name not in {other.name for other in written}:
                    file.unlink()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"The model could not be written: {error.strerror or error}.",
            place=str(target),
            mend="free disk space or choose a folder you may write to",
        ) from error


def write_config(folder: Path, config: PreTrainedConfig) -> None:
    """Writes `config.json` as the hub has it, without the keys that point at remote code."""
    values = config.to_dict()
    values.update(architectures=["DeepseekOCRForCausalLM"], model_type="deepseek_vl_v2")
    (folder / "config.json").write_text(json.dumps(values, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> str:
    return str(value).removeprefix("torch.")


class TensorPlan(NamedTuple):
    """A tensor that is to be written: its name, and what the header says of it."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_shards(folder: Path, plans: Sequence[TensorPlan], tensor_of: Callable[[str], Tensor]) -> None:
    """Writes `model.safetensors`, or several of at most `MAX_SHARD_BYTES` with their index.

    Args:
        folder: where; files are not written under temporary names here.
        plans: all tensors, in the order of the files.
        tensor_of: gives a tensor by name when it is due; it is not kept.
    """
    shards: list[list[TensorPlan]] = [[]]
    filled = 0
    for plan in plans:
        if shards[-1] and filled + plan.size > MAX_SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(plan)
        filled += plan.size
    if len(shards) == 1:
        stream_safetensors(folder / SINGLE, shards[0], tensor_of)
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        stream_safetensors(folder / file, shard, tensor_of)
        weight_map.update(dict.fromkeys((plan.name for plan in shard), file))
    index = {"metadata": {"total_size": sum(plan.size for plan in plans)}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def write_safetensors(file: Path, tensors: list[tuple[str, Tensor]]) -> None:
    """Writes tensors one after another; the safetensors library would copy slices of fused experts first."""
    stream_safetensors(file, [_plan(name, tensor) for name, tensor in tensors], dict(tensors).__getitem__)


def _plan(name: str, tensor: Tensor) -> TensorPlan:
    return TensorPlan(name, tensor.dtype, tuple(tensor.shape))


def stream_safetensors(file: Path, plans: Sequence[TensorPlan], tensor_of: Callable[[str], Tensor]) -> None:
    """Writes planned tensors one after another; each is asked for when it is due."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for plan in plans:
        header[plan.name] = {
            "dtype": _DTYPE_NAMES[plan.dtype],
            "shape": list(plan.shape),
            "data_offsets": [offset, offset + plan.size],
        }
        offset += plan.size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # the format keeps the data aligned to eight bytes
    with file.open("wb") as stream:
        stream.write(len(encoded).to_bytes(8, "little"))
        stream.write(encoded)
        for plan in plans:
            tensor = tensor_of(plan.name)
            flat = tensor.detach().cpu().contiguous().view(-1)
            stream.write(flat.view(torch.uint8).numpy().data)
