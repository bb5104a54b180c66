"""The native engine: our own model in this process, batched greedy decoding with loop control.

Letters: B pages of a batch, P columns of the prompt (padding included), G generated columns, V vocabulary.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from ocrsmith.engines.base import PageRequest, ReadProgress, failed
from ocrsmith.engines.decoding import DecodingSettings, NoRepeatNGramProcessor, is_looping
from ocrsmith.errors import InputError, OcrsmithError, SettingsError
from ocrsmith.model.adapter_files import read_config as read_adapter_config
from ocrsmith.model.lora import DECODING_FILE, load_adapter, merge_adapter
from ocrsmith.model.processing import SETTINGS_FILE, Encoded, OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import load_model, load_processor, resolve_model
from ocrsmith.records import FinishReason, Prediction
from ocrsmith.settings.provenance import file_sha256

DeviceName = Literal["auto", "cpu", "cuda"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
BATCH_SIZES = {"cpu": 16, "cuda": 32}
LOOP_CHECK_EVERY = 16
"""Steps between looks at the generated tokens: each look waits for the device."""
LOOP_TOKENS = 384
LOOP_REPEATS = 8
"""A page is ended early only after so much repetition: real pages have dot leaders and columns of equal cells.
These values leave tables of thousands of cells alone, and end a loop long before the token limit."""

_TAIL = 4 * LOOP_TOKENS
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
    ) -> None:
        """
        Args:
            model: an `OcrModel`, or one with a PEFT adapter on it; stays on its device and in its dtype.
            processor: turns images and prompts into tokens and views, as in training.
            decoding: None takes the defaults.
            batch_size: pages decoded at a time; None chooses by device.
            origin: names and hashes of model and adapter, for `describe`.
            features: keeps image features by page, for pages that are read again while the encoder stays as it
                is, as in evaluations during training.

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
        self.processor = processor
        self.decoding = decoding or DecodingSettings()
        self.decoding.loop_control(processor.tokenizer)  # a wrong whitelist shows here, not on the first page
        self.device = next(model.parameters()).device
        self.dtype = next(model.parameters()).dtype
        self.batch_size = batch_size or BATCH_SIZES.get(self.device.type, 16)
        self.context = int(model.config.decoder_sizes.max_position_embeddings)
        self._origin = dict(origin or {})
        self._features = features

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
        decoding = _decoding(adapter, max_new_tokens)
        origin: dict[str, Any] = {"model": {"name": model, "hash": folder_hash(folder)}, "adapter": None}
        network: Any = load_model(model, dtype=number, device=place)
        if adapter is not None:
            network = merge_adapter(load_adapter(network, adapter))
            origin["adapter"] = {"name": str(adapter), "hash": folder_hash(adapter), "merged": True}
        return cls(network, processor, decoding=decoding, batch_size=batch_size, origin=origin)

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

        Pages are encoded by a thread while the batch before is decoded.
        """
        ordered = sorted(requests, key=lambda request: request.expected_length, reverse=True)
        batches = [
            ordered[start : start + self.batch_size] for start in range(0, len(ordered), self.batch_size)
        ]
        if not batches:
            return
        with _evaluating(self.model), ThreadPoolExecutor(1, thread_name_prefix="encode") as encoder:
            upcoming = encoder.submit(self._encode, batches[0])
            for number in range(len(batches)):
                pages, broken = upcoming.result()
                if number + 1 < len(batches):
                    upcoming = encoder.submit(self._encode, batches[number + 1])
                for prediction in (*broken, *self._read_batch(pages)):
                    yield prediction
                    if progress:
                        progress(1)

    def _encode(self, requests: Iterable[PageRequest]) -> tuple[list[_Page], list[Prediction]]:
        """Pages ready for the model, and those that cannot be."""
        pages: list[_Page] = []
        broken: list[Prediction] = []
        for request in requests:
            begin = time.perf_counter()
            try:
                encoded = self.processor.encode([request.image], prompt=request.prompt)
                limit = self.decoding.token_limit(encoded.num_tokens, self.context)
                if limit < 1:
                    raise InputError(
                        f"Image and prompt take {encoded.num_tokens} tokens, the context is {self.context}."
                    )
            except Exception as error:
                broken.append(failed(request, _reason(error), seconds=time.perf_counter() - begin))
            else:
                pages.append(_Page(request, encoded, limit, time.perf_counter() - begin))
        return pages, broken

    def _read_batch(self, pages: Sequence[_Page]) -> Iterator[Prediction]:
        """Decodes a batch; where that fails, its parts, so that one page does not take others with it."""
        if not pages:
            return
        try:
            yield from self._generate(pages)
        except Exception as error:
            if len(pages) == 1:
                yield failed(pages[0].request, _reason(error), seconds=pages[0].seconds)
                return
            reason = error
        else:
            return
        half = (len(pages) + 1) // 2
        if isinstance(reason, torch.OutOfMemoryError):
            del reason  # its traceback holds the batch's tensors
            torch.cuda.empty_cache()
            self.batch_size = min(self.batch_size, half)
        yield from self._read_batch(pages[:half])
        yield from self._read_batch(pages[half:])

    @torch.inference_mode()
    def _generate(self, pages: Sequence[_Page]) -> list[Prediction]:
        begin = time.perf_counter()
        batch = self.processor.collate([page.encoded for page in pages], padding_side="left")
        network: Any = self.model
        if self._features is not None:
            views, layouts = batch.pop("views"), batch.pop("image_layouts")
            batch["image_features"] = self._features.of(
                [(page.request.id, page.encoded.num_image_tokens) for page in pages],
                lambda: network.encode_images(views, layouts),
            )
        inputs = {name: _to(value, self.device) for name, value in batch.items()}
        prompt = inputs["input_ids"].shape[1]
        eos, pad = self.processor.tokens.eos, self.processor.tokens.pad
        loop_control = self.decoding.loop_control(self.processor.tokenizer, prompt_length=prompt)
        recorder = _LogprobRecorder(loop_control)
        stop = _PageStop(prompt, [page.limit for page in pages], eos=eos, pad=pad)
        output = network.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=max(page.limit for page in pages),
                do_sample=False,
                num_beams=1,
                use_cache=True,
                bos_token_id=self.processor.tokens.bos,
                eos_token_id=eos,
                pad_token_id=pad,
            ),
            logits_processor=LogitsProcessorList([recorder]),
            stopping_criteria=StoppingCriteriaList([stop]),
        )
        rows = output[:, prompt:].tolist()
        logprobs = torch.stack(recorder.steps, dim=1).tolist()
        seconds = (time.perf_counter() - begin) / len(pages)
        return [
            self._prediction(page, row, values, seconds, looped=place in stop.looped)
            for place, (page, row, values) in enumerate(zip(pages, rows, logprobs, strict=True))
        ]

    def _prediction(
        self, page: _Page, row: list[int], logprobs: list[float], seconds: float, *, looped: bool
    ) -> Prediction:
        """One row of what `generate` gave; white space around the text is cut off, as references have none."""
        eos, pad = self.processor.tokens.eos, self.processor.tokens.pad
        tokens = row[: page.limit]
        reason: FinishReason = "stop"
        if eos in tokens:
            tokens = tokens[: tokens.index(eos) + 1]
        else:
            if pad in tokens:  # the row was stopped, and filled up while others went on
                tokens = tokens[: tokens.index(pad)]
            reason = "loop" if looped or _ended_in_loop(tokens) else "length"
        values = logprobs[: len(tokens)]
        return Prediction(
            id=page.request.id,
            text=self.processor.decode(tokens).strip(),
            finish_reason=reason,
            seconds=seconds + page.seconds,
            tokens=len(tokens),
            logprob_mean=sum(values) / len(values) if values else None,
            logprob_min=min(values) if values else None,
        )


class PageFeatures:
    """Image features by page id, in host memory up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.room = limit_bytes
        """Bytes that may still be used."""
        self._kept: dict[str, Tensor] = {}

    def of(self, pages: Sequence[tuple[str, int]], encode: Callable[[], Tensor]) -> Tensor:
        """Features (I, H) of a batch.

        Args:
            pages: id and number of image tokens of each page.
            encode: makes the features of the whole batch; called where those of a page are not known.
        """
        if all(name in self._kept for name, _ in pages):
            return torch.cat([self._kept[name] for name, _ in pages])
        rows: Tensor = encode()
        for (name, _), part in zip(pages, rows.split([count for _, count in pages]), strict=True):
            if name not in self._kept and part.nbytes <= self.room:
                self._kept[name] = part.to("cpu", copy=True)
                self.room -= part.nbytes
        return rows


@dataclass(slots=True)
class _Page:
    """A request on its way through the model."""

    request: PageRequest
    encoded: Encoded
    limit: int
    """Tokens that may be generated; the page's own, so that its answer does not depend on its batch."""
    seconds: float
    """Spent on encoding."""


@dataclass
class _LogprobRecorder(LogitsProcessor):
    """Applies loop control, and keeps the log-probability of the token that greedy decoding takes then.

    It is the model's own probability, before loop control: a token that was only taken because a likelier one
    was forbidden shows as the doubtful token it is.
    """

    loop_control: NoRepeatNGramProcessor | None
    steps: list[Tensor] = field(default_factory=list)
    """(B,) float32 for each step."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(B, P + g) ids so far and (B, V) scores → (B, V) scores with forbidden tokens at -inf."""
        total = scores.logsumexp(dim=-1)  # loop control changes a copy, so `scores` stay the model's own
        allowed = scores if self.loop_control is None else self.loop_control(input_ids, scores)
        chosen = allowed.argmax(dim=-1, keepdim=True)
        self.steps.append(scores.gather(-1, chosen).squeeze(-1) - total)
        return allowed


class _PageStop(StoppingCriteria):
    """Ends a page at its own token limit, or when it loops."""

    def __init__(self, prompt: int, limits: Sequence[int], *, eos: int, pad: int) -> None:
        self.prompt = prompt
        self.limits = limits
        self.ends = (eos, pad)
        self.looped: set[int] = set()
        """Rows that were ended because of a loop."""

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """(B, P + g) → (B,) bool: which pages end here."""
        generated = input_ids.shape[1] - self.prompt
        done = [generated >= limit for limit in self.limits]
        if generated >= LOOP_TOKENS and generated % LOOP_CHECK_EVERY == 0:
            tails = input_ids[:, self.prompt :][:, -_TAIL:].tolist()
            for row, tail in enumerate(tails):
                if tail[-1] not in self.ends and _is_looping(tail):
                    self.looped.add(row)
                    done[row] = True
        return torch.tensor(done, device=input_ids.device)


def _is_looping(tokens: Sequence[int]) -> bool:
    """Whether decoding should end here."""
    return is_looping(tokens, min_length=LOOP_TOKENS, min_repeats=LOOP_REPEATS, max_tail=_TAIL)


def _ended_in_loop(tokens: Sequence[int]) -> bool:
    """Whether a page that reached the token limit did so by repeating itself, or had more to say.

    Under a low limit (text lines) less repetition is to be had, so less is asked for.
    """
    if len(tokens) >= 2 * LOOP_TOKENS:
        return _is_looping(tokens)
    return is_looping(tokens, min_length=max(24, len(tokens) // 2), min_repeats=4)


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


def _decoding(adapter: Path | None, max_new_tokens: int | None) -> DecodingSettings:
    """The settings saved with the adapter, or the defaults; `max_new_tokens` wins. Raises SettingsError."""
    values: dict[str, Any] = {}
    file = adapter / DECODING_FILE if adapter is not None else None
    if file is not None and file.is_file():
        try:
            values = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(
                f"{file.name} cannot be read ({error}).", place=str(file), mend="Delete it to get the defaults."
            ) from error
    if max_new_tokens is not None:
        values["max_new_tokens"] = max_new_tokens
    return DecodingSettings.from_values(values, place=str(file) if values else None)


def _reason(error: Exception) -> str:
    """One line for a person; exceptions that no one foresaw keep their type."""
    if isinstance(error, OcrsmithError):
        return error.problem
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _to(item, device) for key, item in value.items()}
    return value


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode for a while: training may call in between two steps."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
