"""Holds a merged model against the adapter that it was made from, on real pages.

Two questions, each with a figure. Does it say the same? Greedy answers of both, and their mean CER. Is it the
same function? Logits on the pages' own texts: how far the merged model is from the adapter, in relation to how
far the adapter is from the base. A merge that lost the adapter, or its scale, comes out near 1; one that only
rounds to 16 bits, at a few hundredths.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.engine import NativeEngine
from ocrsmith.errors import InputError
from ocrsmith.model.lora import load_adapter
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.model.weights import load_model, load_processor

MAX_DISTANCE = 0.3
"""Largest accepted distance of the logits; see `Verification.distance`."""
MAX_CER_CHANGE = 0.01
"""Largest accepted change of the mean CER, as a fraction."""
COMPARED_CHARACTERS = 400
"""Beginning of a page's text on which logits are compared: they are 129,280 numbers a token in the 3B model."""

Score = Callable[[str, str], float]
"""CER of (reference, prediction); handed in, so that this package knows nothing of evaluation."""


@dataclass(frozen=True, slots=True)
class VerifiedPage:
    """A page to compare on."""

    id: str
    image: bytes
    reference: str
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out."""

    pages: int
    same_text: int
    """Pages on which both give the same text."""
    cer_adapter: float
    cer_merged: float
    """Mean CER against the references."""
    distance: float
    """|merged - adapter| / |adapter - base| over all compared logits (Euclidean norms); 0 is the same."""
    effect: float
    """|adapter - base| / |base|: how much the adapter does at all."""
    differing: tuple[str, ...]
    """Ids of pages with other texts; the first few."""

    @property
    def problems(self) -> list[str]:
        """Why the merged model is not the adapter's; empty if it is."""
        found = []
        if not self.distance <= MAX_DISTANCE:
            found.append(
                f"its logits are {self.distance:.2f} of the adapter's own effect away from the adapter's "
                f"(at most {MAX_DISTANCE})"
            )
        if not abs(self.cer_merged - self.cer_adapter) <= MAX_CER_CHANGE:
            found.append(f"its mean CER is {self.cer_merged:.4f}, the adapter's {self.cer_adapter:.4f}")
        return found

    def to_json(self) -> dict[str, Any]:
        """The figures by name, and the limits they were held to."""
        limits = {"distance": MAX_DISTANCE, "cer_change": MAX_CER_CHANGE}
        return {**asdict(self), "differing": list(self.differing), "limits": limits}


@torch.inference_mode()
def verify(
    base: str,
    adapter: Path,
    merged: Path,
    pages: Sequence[VerifiedPage],
    score: Score,
    *,
    device: torch.device,
    dtype: torch.dtype,
    decoding: DecodingSettings,
) -> Verification:
    """Reads the pages with the adapter on its base, then with the merged model; one model in memory at a time.

    Args:
        base: name or folder of the base.
        adapter, merged: folders.
        pages: at least one.
        score: gives a page's CER.
        device, dtype: where and in what precision both run.
        decoding: limits of an answer, for both.

    Raises:
        InputError: a page cannot be read.
    """
    processor = load_processor(str(merged))
    network: Any = load_model(base, dtype=dtype, device=device)
    before = [_logits(network, processor, page) for page in pages]
    network = load_adapter(network, adapter)
    wanted = [_logits(network, processor, page) for page in pages]
    effect, size = _norm(wanted, before), _norm(before)
    del before
    by_adapter = _read(network, processor, pages, decoding)
    network = None
    _free(device)
    network = load_model(str(merged), dtype=dtype, device=device)
    off = _norm([_logits(network, processor, page) for page in pages], wanted)
    by_merged = _read(network, processor, pages, decoding)
    differing = [page.id for page in pages if by_adapter[page.id] != by_merged[page.id]]
    cers = [[score(page.reference, read[page.id]) for page in pages] for read in (by_adapter, by_merged)]
    # An adapter that does nothing is the same as its base: then rounding is held against the logits themselves.
    measure = max(effect, 0.01 * size)
    return Verification(
        pages=len(pages),
        same_text=len(pages) - len(differing),
        cer_adapter=sum(cers[0]) / len(pages),
        cer_merged=sum(cers[1]) / len(pages),
        distance=off / measure if measure else 0.0,
        effect=effect / size if size else 0.0,
        differing=tuple(differing[:10]),
    )


def _logits(network: Any, processor: OcrProcessor, page: VerifiedPage) -> Tensor:
    """(R, V) float32 on the host: the scores at the places of the page's text."""
    text = page.reference[:COMPARED_CHARACTERS]
    batch = processor.collate([processor.encode([page.image], prompt=page.prompt, text=text)])
    rows = batch["label_rows"]
    device = next(network.parameters()).device
    views = {side: view.to(device) for side, view in batch["views"].items()}
    output = network(
        input_ids=batch["input_ids"].to(device),
        views=views,
        image_layouts=batch["image_layouts"],
        logits_to_keep=rows.to(device),
        use_cache=False,
    )
    logits: Tensor = output.logits[0].float().cpu()
    return logits


def _norm(left: Sequence[Tensor], right: Sequence[Tensor] | None = None) -> float:
    """Euclidean norm of all logits, or of their difference; without each position's mean, as in softmax."""
    total = 0.0
    for place, tensor in enumerate(left):
        values = tensor if right is None else tensor - right[place]
        values = values - values.mean(dim=-1, keepdim=True)
        total += float(values.double().square().sum())
    return total**0.5


def _read(
    network: Any, processor: OcrProcessor, pages: Sequence[VerifiedPage], decoding: DecodingSettings
) -> dict[str, str]:
    engine = NativeEngine(network, processor, decoding=decoding, fold_adapter=False)
    requests = [PageRequest(page.id, page.image, page.prompt, len(page.reference)) for page in pages]
    answers = {answer.id: answer for answer in engine.read(requests)}
    broken = next((answer for answer in answers.values() if answer.finish_reason == "error"), None)
    if broken is not None:
        raise InputError(
            f"The page {broken.id!r} cannot be read: {broken.error}.", mend="verify on other pages (--data)"
        )
    return {name: answer.text for name, answer in answers.items()}


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
