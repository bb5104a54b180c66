"""The engine that runs vLLM in this process: a model folder, merged if it was fine-tuned, on a GPU.

vLLM makes the views and counts image tokens by itself, in one resolution mode. Image files are opened here, the
prompt is sent as our own ids, and a page whose prompt comes out otherwise over there is not read.
"""

from __future__ import annotations

import copy
import itertools
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ocrsmith.engines.base import PageRequest, ReadProgress, failed, strip_aligned
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import folder_hash
from ocrsmith.engines.native.engine import saved_decoding
from ocrsmith.engines.vllm.requests import (
    MODE,
    Reading,
    changed_processing,
    model_arguments,
    one_image_token,
    sampling_arguments,
)
from ocrsmith.engines.workers import EngineFailure, reason_of
from ocrsmith.errors import InputError, SettingsError, require
from ocrsmith.images import open_image
from ocrsmith.model.config import ClipSizes, OcrConfig, SamSizes
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import read_config, resolve_model
from ocrsmith.records import Prediction

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES = ("auto", "float32", "bfloat16", "float16")
BATCH_SIZE = 128
"""Pages decoded at a time; vLLM itself takes fewer where memory is short."""
AHEAD = 2
"""Pages that vLLM is given, in batches: it never waits for the next one."""
OLDEST = (0, 32)
"""The version that this was tried with. From before 0.14.1 bad pictures and model folders could run code."""
_ENVIRONMENT = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmEngine:
    """Reads pages with vLLM."""

    name = "vllm"

    def __init__(
        self,
        llm: Any,
        processor: OcrProcessor,
        *,
        context: int,
        batch_size: int = BATCH_SIZE,
        decoding: DecodingSettings | None = None,
        origin: dict[str, Any] | None = None,
        not_honoured: dict[str, str] | None = None,
    ) -> None:
        """
        Args:
            llm: a `vllm.LLM`, made with `model_arguments`.
            processor: the model's tokenizer, and the processing settings that vLLM works by.
            context: longest sequence in tokens.
            batch_size: pages that vLLM decodes at a time.
            decoding: None takes the defaults.
            origin: what `describe` says of model and library.
            not_honoured: settings that have no effect, and why.

        Raises:
            SettingsError: a whitelisted token is none of the tokenizer's.
        """
        self.decoding = decoding or DecodingSettings()
        self._whitelist = self.decoding.whitelist_ids(processor.tokenizer)
        self.processor, self.context, self.batch_size = processor, context, batch_size
        self._llm = llm
        self._numbers = itertools.count()  # of requests, shared with adjusted engines
        self._origin, self._missed = dict(origin or {}), dict(not_honoured or {})

    @classmethod
    def load(
        cls,
        model: str,
        *,
        adapter: Path | None = None,
        mode: str | None = None,
        max_new_tokens: int | None = None,
        batch_size: int | None = None,
        dtype: DtypeName = "auto",
        gpu_memory_utilization: float | None = None,
        enforce_eager: bool = False,
    ) -> VllmEngine:
        """Starts vLLM with a model.

        Args:
            model: a folder in hub layout with the encoder's published sizes, or a hub id.
            adapter: refused; merge it first.
            mode: only gundam, the one that vLLM has.
            max_new_tokens: token limit instead of the saved one.
            batch_size: pages decoded at a time.
            dtype: `auto` takes the one of the weights.
            gpu_memory_utilization: share of the GPU's memory that vLLM may take; None leaves it to vLLM.
            enforce_eager: no compiling: a slower run that begins sooner.

        Raises:
            MissingExtraError: vLLM is not installed.
            WeightsError, InputError: the model is missing, damaged, or none for vLLM; vLLM could not start.
            SettingsError: a wrong option value, an adapter, an old vLLM.
        """
        _check_options(adapter, mode, batch_size, dtype, gpu_memory_utilization)
        folder = resolve_model(model)
        decoding = saved_decoding([folder], max_new_tokens)
        config = read_config(folder)
        check_model(folder, config)
        saved = OcrProcessor.from_pretrained(folder)
        library = _library()
        processing, missed = changed_processing(saved.settings.model_dump(), _tiles())
        context = config.decoder_sizes.max_position_embeddings
        batch_size = batch_size or BATCH_SIZE
        arguments = model_arguments(
            str(folder),
            dtype=dtype,
            context=context,
            batch_size=batch_size,
            gpu_memory_utilization=gpu_memory_utilization,
            eager=enforce_eager,
        )
        try:
            llm = library.LLM(**arguments)
        except Exception as error:
            raise InputError(
                f"vLLM could not start with this model ({reason_of(error)}).",
                place=str(folder),
                mend="Its log is above; where memory is short, a lower --batch-size helps.",
            ) from error
        origin = {
            "model": {"name": model, "hash": folder_hash(folder)},
            "adapter": None,
            "vllm": library.__version__,
            "dtype": str(llm.model_config.dtype).removeprefix("torch."),
        }
        processor = OcrProcessor(saved.tokenizer, ProcessingSettings.from_values(processing))
        return cls(
            llm,
            processor,
            context=context,
            batch_size=batch_size,
            decoding=decoding,
            origin=origin,
            not_honoured=missed,
        )

    def adjusted(self, *, mode: str | None = None, decoding: DecodingSettings | None = None) -> VllmEngine:
        """See `Adjustable.adjusted`. One of them reads at a time."""
        _check_mode(mode)
        other = copy.copy(self)
        if decoding is not None:
            other.decoding = decoding
            other._whitelist = decoding.whitelist_ids(self.processor.tokenizer)
        return other

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        return {
            **self._origin,
            "processing": self.processor.settings.model_dump(mode="json"),
            "decoding": self.decoding.model_dump(mode="json"),
            "not_honoured": dict(self._missed),
            "runtime": {"batch_size": self.batch_size},
        }

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """See `Engine.read`. Pages come back as they end.

        Raises:
            EngineFailure: vLLM itself broke down; no page is recorded as failed for it.
        """
        waiting = deque(sorted(requests, key=lambda request: request.expected_length, reverse=True))
        running: dict[str, Reading] = {}
        try:
            while waiting or running:
                begin = time.perf_counter()
                done = self._fill(waiting, running)
                if running:
                    done += self._step(running)
                share = (time.perf_counter() - begin) / max(1, len(running) + len(done))
                for reading in (*running.values(), *done):
                    reading.seconds += share
                for reading in done:
                    yield self._prediction(reading)
                    if progress:
                        progress(1)
        finally:
            if running:  # nobody waits for them any more
                self._llm.llm_engine.abort_request(list(running))

    def _fill(self, waiting: deque[PageRequest], running: dict[str, Reading]) -> list[Reading]:
        """Gives vLLM pages until it has enough; returns those that it cannot take."""
        broken: list[Reading] = []
        while waiting and len(running) < AHEAD * self.batch_size:
            request = waiting.popleft()
            try:
                name, reading = self._begin(request)
            except Exception as error:
                broken.append(Reading(request))
                broken[-1].fail(reason_of(error))
            else:
                running[name] = reading
        return broken

    def _begin(self, request: PageRequest) -> tuple[str, Reading]:
        """Sends a page off. Raises ImageError and InputError, and whatever vLLM's own checks raise."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        tokens = self.processor.tokens
        image = open_image(request.image, alpha=self.processor.settings.alpha)
        prompt = self.processor.encode_text(image.size, prompt=request.prompt).input_ids
        limit = self.decoding.token_limit(len(prompt), self.context)
        if limit < 1:
            raise InputError(f"Image and prompt take {len(prompt)} tokens, the context is {self.context}.")
        engine = self._llm.llm_engine
        asked = {
            "prompt_token_ids": one_image_token(prompt, tokens.image),
            "multi_modal_data": {"image": image},
        }
        (ready,) = engine.renderer.render_cmpl([asked])
        if list(ready["prompt_token_ids"]) != prompt:
            raise InputError(_skew(len(ready["prompt_token_ids"]), len(prompt)))
        sampling = sampling_arguments(self.decoding, limit=limit, end=tokens.eos, whitelist=self._whitelist)
        name = f"ocrsmith-{next(self._numbers)}"
        engine.add_request(name, ready, SamplingParams(**sampling, output_kind=RequestOutputKind.DELTA))
        return name, Reading(request, tokens.eos)

    def _step(self, running: dict[str, Reading]) -> list[Reading]:
        """Waits for news; returns pages that have ended and are no longer running. Raises EngineFailure."""
        engine = self._llm.llm_engine
        try:
            outputs = engine.step()
        except Exception as error:
            raise EngineFailure(
                f"vLLM broke down ({reason_of(error)}).",
                mend="Its log is above. Run the same command again: pages that were read are kept.",
            ) from error
        done: list[Reading] = []
        for output in outputs:
            reading = running.get(output.request_id)
            if reading is None:  # of a page that was ended here
                continue
            answer = output.outputs[0]
            reading.take(answer.token_ids, answer.logprobs, answer.finish_reason)
            if reading.finish is not None:
                del running[output.request_id]
                done.append(reading)
                if not output.finished:
                    engine.abort_request([output.request_id])
        return done

    def _prediction(self, reading: Reading) -> Prediction:
        """What became of a page, as the native engine tells it."""
        if reading.finish is None or reading.finish == "error":
            return failed(reading.request, reading.error, seconds=reading.seconds)
        text, ends = strip_aligned(*self.processor.tokens.decode_aligned(reading.tokens))
        values = reading.logprobs
        return Prediction(
            id=reading.request.id,
            text=text,
            finish_reason=reading.finish,
            seconds=reading.seconds,
            tokens=len(reading.tokens),
            logprob_mean=sum(values) / len(values) if values else None,
            logprob_min=min(values) if values else None,
            token_ends=ends if values else (),
            token_logprobs=tuple(values) if ends else (),
            mode=MODE,
        )


def check_model(folder: Path, config: OcrConfig) -> None:
    """Finds what vLLM would not say, or say badly, before gigabytes are read.

    Raises:
        InputError: the encoder has other sizes than vLLM's; a tokenizer file is missing.
    """
    if config.sam_sizes != SamSizes() or config.clip_sizes != ClipSizes():
        raise InputError(
            "vLLM has DeepSeek-OCR's encoder in its published sizes only, and this model's is another.",
            place=str(folder / "config.json"),
            mend="Read with --engine native; `nano` and other small models cannot be run by vLLM.",
        )
    missing = [name for name in ("tokenizer.json", "tokenizer_config.json") if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"The model folder has no {' and no '.join(missing)}, which vLLM needs.",
            place=str(folder),
            mend="Copy both tokenizer files from the folder of the base model.",
        )


def _check_options(
    adapter: Path | None,
    mode: str | None,
    batch_size: int | None,
    dtype: str,
    gpu_memory_utilization: float | None,
) -> None:
    if adapter is not None:
        raise SettingsError(
            "The engine vllm takes no adapter: vLLM would apply a part of it only, or none, without a word.",
            place="--adapter",
            mend="Merge it with `ocrsmith export` and give that folder as --model, or use --engine native.",
        )
    _check_mode(mode)
    if batch_size is not None and batch_size < 1:
        raise SettingsError(f"The batch size is {batch_size}.", place="--batch-size", mend="Give 1 or more.")
    if dtype not in DTYPES:
        raise SettingsError(f"There is no dtype {dtype!r}.", place="--dtype", mend=f"Use {', '.join(DTYPES)}.")
    share = gpu_memory_utilization
    if share is not None and not (math.isfinite(share) and 0 < share <= 1):
        raise SettingsError(
            f"gpu_memory_utilization is {share}.",
            place="gpu_memory_utilization",
            mend="Give a share of the GPU's memory above 0 and up to 1.",
        )


def _check_mode(mode: str | None) -> None:
    if mode not in (None, MODE):
        raise SettingsError(
            f"vLLM reads DeepSeek-OCR's pages in mode {MODE} only, not in {mode!r}.",
            place="--mode",
            mend=f"Leave the mode out, or read with --engine native --mode {mode}.",
        )


def _library() -> ModuleType:
    """vLLM, told to keep stdout free for results and not to report on its users."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    library = require("vllm", extra="vllm", why="The engine vllm")
    version = tuple(getattr(library, "__version_tuple__", ()))[:2]
    if version and version < OLDEST:
        raise SettingsError(
            f"vLLM {library.__version__} is too old.",
            place="vllm",
            mend=f"Install {'.'.join(map(str, OLDEST))} or newer: pip install -U vllm",
        )
    return library


def _tiles() -> tuple[int, int]:
    """The fewest and the most tiles that vLLM makes of a page."""
    from vllm.transformers_utils.processors import deepseek_ocr

    return int(deepseek_ocr.MIN_CROPS), int(deepseek_ocr.MAX_CROPS)


def _skew(there: int, here: int) -> str:
    return f"vLLM makes {there} tokens of image and prompt, the model was trained with {here}"
