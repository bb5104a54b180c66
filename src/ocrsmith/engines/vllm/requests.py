"""What vLLM is asked and what it answers, without the library: its arguments, and an answer as it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.loop_end import (
    LOOP_CHECK_EVERY,
    LOOP_TAIL,
    LOOP_TOKENS,
    ended_in_loop,
    is_endless,
)
from ocrsmith.records import FinishReason

NGRAM_PROCESSOR = "vllm.model_executor.models.deepseek_ocr:NGramPerReqLogitsProcessor"
MODE = "gundam"
"""The one resolution mode that vLLM has for DeepSeek-OCR."""


def model_arguments(
    folder: str,
    *,
    dtype: str,
    context: int,
    batch_size: int,
    gpu_memory_utilization: float | None,
    eager: bool,
) -> dict[str, Any]:
    """Arguments of `vllm.LLM` that DeepSeek-OCR needs.

    Neither prefixes nor processed images are cached: each page is read once. Code that a model folder names is
    not run.
    """
    arguments: dict[str, Any] = {
        "model": folder,
        "tokenizer": folder,
        "trust_remote_code": False,
        "dtype": dtype,
        "max_model_len": context,
        "max_num_seqs": batch_size,
        "enforce_eager": eager,
        "enable_prefix_caching": False,
        "mm_processor_cache_gb": 0,
        "limit_mm_per_prompt": {"image": 1},
        "logits_processors": [NGRAM_PROCESSOR],
        "hf_overrides": {"architectures": ["DeepseekOCRForCausalLM"]},
        "seed": 0,
    }
    if gpu_memory_utilization is not None:
        arguments["gpu_memory_utilization"] = gpu_memory_utilization
    return arguments


def sampling_arguments(
    decoding: DecodingSettings, *, limit: int, end: int, whitelist: Sequence[int]
) -> dict[str, Any]:
    """Arguments of `vllm.SamplingParams` for one page: greedy, with the n-gram rule and the chosen tokens'
    log-probabilities. Tokens come back as they are made, and are turned into text here.

    Args:
        decoding: the rule; `max_new_tokens` is in `limit` already.
        limit: tokens that the page may have.
        end: id of the token that ends an answer.
        whitelist: ids of tokens that are never forbidden.
    """
    arguments: dict[str, Any] = {
        "temperature": 0.0,
        "max_tokens": limit,
        "stop_token_ids": [end],
        "logprobs": 0,  # of the chosen token, and of no others
        "detokenize": False,
        "skip_special_tokens": False,
    }
    if decoding.ngram_size:
        arguments["extra_args"] = {
            "ngram_size": decoding.ngram_size,
            "window_size": decoding.ngram_window,
            "whitelist_token_ids": list(whitelist),
        }
    return arguments


def one_image_token(ids: Sequence[int], image: int) -> list[int]:
    """The prompt as vLLM wants it: one image token, which it replaces by as many as it counts."""
    return [token for place, token in enumerate(ids) if token != image or place == 0 or ids[place - 1] != image]


def changed_processing(
    saved: Mapping[str, Any], tiles: tuple[int, int]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The processing settings that vLLM works by, and what of the saved ones it cannot honour.

    Args:
        saved: `ProcessingSettings` by name.
        tiles: the fewest and the most tiles that vLLM makes.
    """
    fixed: dict[str, Any] = {"mode": MODE, "min_tiles": tiles[0], "max_tiles": tiles[1]}
    missed = {
        f"processing.{name}": f"vLLM has {value} and nothing else; the model's settings say {saved[name]}"
        for name, value in fixed.items()
        if saved[name] != value
    }
    return {**saved, **fixed}, missed


@dataclass(slots=True, eq=False)
class Reading:
    """A page on its way through vLLM."""

    request: PageRequest
    end: int = -1
    """Id of the token that ends an answer."""
    seconds: float = 0.0
    """Its share of the time so far."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason | None = None
    error: str = ""
    """Why it could not be read."""

    def fail(self, reason: str) -> None:
        """Ends it without an answer."""
        self.finish, self.error = "error", reason

    def take(
        self, tokens: Sequence[int], logprobs: Sequence[Mapping[int, Any]] | None, finish: str | None
    ) -> None:
        """Takes over new tokens; sets `finish` when the page is done.

        Args:
            tokens: made since the last call.
            logprobs: for each of them, log-probabilities by id.
            finish: vLLM's reason why it ended, None while it goes on.
        """
        before = len(self.tokens)
        self.tokens += tokens
        self.logprobs += [
            float(known[token].logprob) for token, known in zip(tokens, logprobs or (), strict=bool(logprobs))
        ]
        if self._loops(before):
            self.finish = "loop"
        elif finish == "stop":
            self.finish = "stop"
        elif finish == "length":
            self.finish = "loop" if ended_in_loop(self.tokens) else "length"
        elif finish is not None:
            self.fail(f"vLLM ended it with {finish!r}")

    def _loops(self, before: int) -> bool:
        """Whether it repeats itself at one of the counts where the native engine looks; cuts it off there."""
        for count in range(before + 1, len(self.tokens) + 1):
            if count >= LOOP_TOKENS and count % LOOP_CHECK_EVERY == 0:
                tail = self.tokens[max(0, count - LOOP_TAIL) : count]
                if tail[-1] != self.end and is_endless(tail):
                    del self.tokens[count:], self.logprobs[count:]
                    return True
        return False
