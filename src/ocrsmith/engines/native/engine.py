"""The engine that callers see: loads model and adapter, and reads pages."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from ocrsmith.engines.base import PageRequest, ReadProgress, failed, strip_aligned
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.batching import Batcher, Feed, free_bytes
from ocrsmith.engines.native.prefill import Group, Page, PageFeatures, Prefiller
from ocrsmith.errors import InputError, OcrsmithError, SettingsError
from ocrsmith.model.adapter_files import read_config as read_adapter_config
from ocrsmith.model.decode_step import StepModel
from ocrsmith.model.device_views import can_resize
from ocrsmith.model.lora import DECODING_FILE, load_adapter, merge_adapter
from ocrsmith.model.processing import SETTINGS_FILE, OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import load_model, load_processor, resolve_model
from ocrsmith.records import Prediction
from ocrsmith.settings.provenance import file_sha256

DeviceName = Literal["auto", "cpu", "cuda"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
BATCH_SIZES = {"cpu": 16, "cuda": 64}
"""Pages decoded at a time; fewer where memory is short."""
GROUP_SIZES = {"cpu": 4, "cuda": 8}
"""Pages whose images and prompts go through the model together."""
CPU_ROOM = 2 * 2**30
"""Bytes of host memory that copies of weights with an adapter folded in may take."""
_HASHED = ("config.json", "tokenizer.json", "adapter_config.json")


class NativeEngine:
    """Reads pages with an `OcrModel`, with or without an adapter."""

    name = "native"

    def __init__(
        self,
        model: PreTrainedModel | Any,
        processor: OcrProcessor,
        *,
        decoding: DecodingSettings | None = None,
        batch_size: int | None = None,
        origin: Mapping[str, Any] | None = None,
        features: PageFeatures | None = None,
        fold_adapter: bool | None = None,
        fixed_length: bool = False,
    ) -> None:
        """
        Args:
            model: an `OcrModel`, or one with a PEFT adapter on it; stays on its device and in its dtype.
            processor: turns images and prompts into tokens and views, as in training.
            decoding: None takes the defaults.
            batch_size: pages decoded at a time; None chooses by device. Fewer when memory is short.
            origin: names and hashes of model and adapter, for `describe`.
            features: keeps image features by page, for pages that are read again while the encoder stays as it
                is, as in evaluations during training.
            fold_adapter: whether an adapter that is on the model is added to copies of the weights for the time
                of a call, so that decoding is as fast as with a merged one; None: where memory allows.
            fixed_length: go on past the end to `max_new_tokens`, for benchmarks.

        Raises:
            SettingsError: the batch size is below 1, or a whitelisted token is none of the tokenizer's.
            InputError: the tokenizer belongs to another model.
        """
        _check_batch_size(batch_size)
        if processor.tokens.image != model.config.image_token_id:
            raise InputError(
                f"The tokenizer's <image> is {processor.tokens.image}, "
                f"the model's {model.config.image_token_id}.",
                mend="Use the tokenizer that belongs to the model.",
            )
        self.model = model
        self.device = next(model.parameters()).device
        if self.device.type == "cuda" and can_resize():
            processor = OcrProcessor(processor.tokenizer, processor.settings, resize="device")
        self.processor = processor
        self.decoding = decoding or DecodingSettings()
        self.decoding.loop_control(processor.tokenizer)  # a wrong whitelist shows here, not on the first page
        self.dtype = next(model.parameters()).dtype
        self.batch_size = batch_size or BATCH_SIZES.get(self.device.type, 16)
        self.context = int(model.config.decoder_sizes.max_position_embeddings)
        self._origin = dict(origin or {})
        self._features = features
        self._fold_adapter, self._fixed_length = fold_adapter, fixed_length
        self._kept: Batcher | None = None
        self._kept_for: object = None

    @classmethod
    def load(
        cls,
        model: str,
        *,
        adapter: Path | None = None,
        mode: str | None = None,
        max_new_tokens: int | None = None,
        batch_size: int | None = None,
        device: DeviceName = "auto",
        dtype: DtypeName = "auto",
    ) -> NativeEngine:
        """Loads model, adapter and the settings saved with them.

        Args:
            model: `nano`, a folder in hub layout, or a hub id.
            adapter: an adapter folder; it is merged into the weights, since unmerged ones decode much slower.
                The processing and decoding settings saved with it win over the model's.
            mode: resolution mode instead of the saved one.
            max_new_tokens: token limit instead of the saved one.
            batch_size: pages decoded at a time; None chooses by device.
            device, dtype: `auto` takes CUDA where there is one, with bfloat16, or float16 on older cards; on a
                CPU float32.

        Raises:
            WeightsError, AdapterError, InputError: model or adapter are missing, damaged or do not fit.
            SettingsError: a wrong option value.
        """
        _check_batch_size(batch_size)
        place, number = choose_device(device, dtype)
        folder = resolve_model(model)
        if adapter is not None:
            read_adapter_config(adapter)  # refuses what is no adapter before gigabytes are read
        saved = adapter if adapter is not None and (adapter / SETTINGS_FILE).is_file() else None
        processor = OcrProcessor.from_pretrained(saved) if saved else load_processor(model)
        processor = _with_mode(processor, mode)
        decoding = saved_decoding((adapter, folder), max_new_tokens)
        origin: dict[str, Any] = {"model": {"name": model, "hash": folder_hash(folder)}, "adapter": None}
        network: Any = load_model(model, dtype=number, device=place)
        if adapter is not None:
            network = merge_adapter(load_adapter(network, adapter))
            origin["adapter"] = {"name": str(adapter), "hash": folder_hash(adapter), "merged": True}
        return cls(network, processor, decoding=decoding, batch_size=batch_size, origin=origin)

    def adjusted(self, *, mode: str | None = None, decoding: DecodingSettings | None = None) -> NativeEngine:
        """See `Adjustable.adjusted`. The model is shared; buffers for decoding are each engine's own."""
        processor = _with_mode(self.processor, mode)
        same_views = processor.settings == self.processor.settings
        return NativeEngine(
            self.model,
            processor,
            decoding=decoding or self.decoding,
            batch_size=self.batch_size,
            origin=self._origin,
            features=self._features if same_views else None,  # kept by page, for one mode
            fold_adapter=self._fold_adapter,
            fixed_length=self._fixed_length,
        )

    @property
    def network(self) -> Any:
        """The `OcrModel`, with an adapter's layers in it or none."""
        unwrap = getattr(self.model, "get_base_model", None)
        return self.model if unwrap is None else unwrap()

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        return {
            "model": self._origin.get("model"),
            "adapter": self._origin.get("adapter"),
            "dtype": str(self.dtype).removeprefix("torch."),
            "processing": self.processor.settings.model_dump(mode="json"),
            "decoding": self.decoding.model_dump(mode="json"),
            "runtime": {"device": _device_name(self.device), "batch_size": self.batch_size},
        }

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """See `Engine.read`. Long pages come first: memory is short at once or never, and an ETA errs upwards.

        Pages are opened and encoded by threads, ahead of the model.
        """
        ordered = sorted(requests, key=lambda request: request.expected_length, reverse=True)
        if not ordered:
            return
        with evaluating(self.model):
            batcher = self._take_batcher(min(self.batch_size, len(ordered)))
            size = min(GROUP_SIZES.get(self.device.type, 4), batcher.slots)
            groups = [ordered[start : start + size] for start in range(0, len(ordered), size)]
            cpu = self.device.type == "cpu"
            pages = ThreadPoolExecutor(1 if cpu else min(16, os.cpu_count() or 1), thread_name_prefix="open")
            try:
                encode = partial(self._encode, batcher.prefill, pages)
                with pages, Feed(groups, encode, workers=1 if cpu else 2) as feed:
                    for finished in batcher.read(feed):
                        yield finished if isinstance(finished, Prediction) else self._prediction(*finished)
                        if progress:
                            progress(1)
            finally:
                self.batch_size = batcher.fits if batcher.fits < batcher.asked else self.batch_size
                if self.device.type == "cuda":  # graphs and buffers serve the next call
                    self._kept = batcher

    @torch.inference_mode()
    def _take_batcher(self, slots: int) -> Batcher:
        """The batcher of the last call, if the model is still what it was, else a new one."""
        network = self.network
        signature = _signature(network)
        batcher, self._kept = self._kept, None
        if batcher is not None and self._kept_for == signature:
            batcher.model.refresh()
            batcher.slots = batcher.fits = batcher.asked = slots
            return batcher
        del batcher
        self._kept_for = signature
        prefill = Prefiller(network, self.processor, self._features)
        return Batcher(
            self.step_model(),
            prefill,
            self.decoding,
            slots=slots,
            columns=min(self.decoding.max_new_tokens, self.context),
            fixed_length=self._fixed_length,
        )

    @torch.inference_mode()
    def step_model(self) -> StepModel:
        """The decoder, made ready for decoding a token at a time."""
        room = free_bytes(self.device) // 2 if self.device.type == "cuda" else CPU_ROOM
        return StepModel(self.network, room=room, fold=self._fold_adapter)

    def _encode(
        self, prefill: Prefiller, threads: ThreadPoolExecutor, requests: Sequence[PageRequest]
    ) -> tuple[Group, list[Prediction]]:
        """Pages ready for the model, and those that cannot be; a thread opens each."""
        made = list(threads.map(self._open, requests))
        pages = [page for page in made if isinstance(page, Page)]
        broken = [page for page in made if isinstance(page, Prediction)]
        return Group(pages, prefill.collate(pages) if pages else None), broken

    def _open(self, request: PageRequest) -> Page | Prediction:
        begin = time.perf_counter()
        try:
            encoded = self.processor.encode([request.image], prompt=request.prompt)
            limit = self.token_limit(encoded.num_tokens, self.decoding)
        except Exception as error:
            return failed(request, reason_of(error), seconds=time.perf_counter() - begin)
        return Page(request, encoded, limit, time.perf_counter() - begin)

    def token_limit(self, prompt_tokens: int, decoding: DecodingSettings) -> int:
        """Tokens that may be generated after a prompt, ≥ 1.

        Raises:
            InputError: the context has no room for an answer.
        """
        limit = decoding.token_limit(prompt_tokens, self.context)
        if limit < 1:
            raise InputError(f"Image and prompt take {prompt_tokens} tokens, the context is {self.context}.")
        return limit

    def _prediction(self, page: Page, error: Exception | None) -> Prediction:
        """What became of a page; white space around the text is cut off, as references have none."""
        if error is not None or page.finish is None:
            return failed(page.request, reason_of(error or RuntimeError("not read")), seconds=page.seconds)
        values = page.logprobs
        text, ends = strip_aligned(*self.processor.tokens.decode_aligned(page.tokens))
        return Prediction(
            id=page.request.id,
            text=text,
            finish_reason=page.finish,
            seconds=page.seconds,
            tokens=len(page.tokens),
            logprob_mean=sum(values) / len(values) if values else None,
            logprob_min=min(values) if values else None,
            token_ends=ends,
            token_logprobs=tuple(values) if ends else (),
            mode=self.processor.settings.mode,
        )


def choose_device(device: DeviceName, dtype: DtypeName) -> tuple[torch.device, torch.dtype]:
    """Resolves `auto`.

    Raises:
        SettingsError: no such device or dtype, CUDA where there is none, bfloat16 where the card has none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"There is no device {device!r}.", place="--device", mend="Use auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "This machine has no CUDA device that PyTorch can use.",
            place="--device",
            mend="Use --device cpu; `ocrsmith doctor` says what is missing.",
        )
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    has_bfloat16 = place.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if dtype == "auto":
        automatic = torch.bfloat16 if has_bfloat16 else torch.float16
        return place, torch.float32 if place.type == "cpu" else automatic
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise SettingsError(f"There is no dtype {dtype!r}.", place="--dtype", mend=f"Use {', '.join(known)}.")
    if dtype == "bfloat16" and not has_bfloat16:
        raise SettingsError("This card has no bfloat16.", place="--dtype", mend="Use --dtype float16.")
    return place, known[dtype]


def folder_hash(folder: Path) -> str:
    """SHA-256 over weights, config and tokenizer of a model or adapter folder, by content and file name."""
    import hashlib

    names = sorted({path.name for path in folder.glob("*.safetensors")} | set(_HASHED))
    total = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            total.update(f"{name} {file_sha256(folder / name)}\n".encode())
    return f"sha256:{total.hexdigest()}"


def _check_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and batch_size < 1:
        raise SettingsError(f"The batch size is {batch_size}.", place="--batch-size", mend="Give 1 or more.")


def _with_mode(processor: OcrProcessor, mode: str | None) -> OcrProcessor:
    if mode is None:
        return processor
    values = processor.settings.model_dump() | {"mode": mode}
    return OcrProcessor(processor.tokenizer, ProcessingSettings.from_values(values, place="--mode"))


def saved_decoding(folders: Sequence[Path | None], max_new_tokens: int | None) -> DecodingSettings:
    """The settings in the first folder that has some, or the defaults; `max_new_tokens` wins.

    Raises:
        SettingsError: the file cannot be read, or holds wrong values.
    """
    files = [folder / DECODING_FILE for folder in folders if folder is not None]
    file = next((file for file in files if file.is_file()), None)
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(
                f"{file.name} cannot be read ({error}).", place=str(file), mend="Delete it to get the defaults."
            ) from error
    if max_new_tokens is not None:
        values["max_new_tokens"] = max_new_tokens
    return DecodingSettings.from_values(values, place=str(file) if file else None)


def reason_of(error: Exception) -> str:
    """One line for a person; exceptions that no one foresaw keep their type."""
    if isinstance(error, OcrsmithError):
        return error.problem
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _signature(network: Any) -> list[Any]:
    """What a captured graph depends on: where the weights lie, and which adapters are on."""
    places: list[Any] = [parameter.data_ptr() for parameter in network.parameters()]
    for module in network.modules():
        if isinstance(module, LoraLayer):
            places += [module.disable_adapters, tuple(module.active_adapters), module.merged]
            places += module.scaling.values()
    return places


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode for a while: training may call in between two steps."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
