"""The native engine as the decoding benchmark drives it: files in, a given number of tokens for each page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.workloads import PROMPT
from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine
from ocrsmith.engines.native.feed import Feed
from ocrsmith.engines.native.prefill import Group, Page
from ocrsmith.model.lora import add_lora, merge_adapter
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import Encoded, OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import load_processor
from ocrsmith.records import Prediction
from ocrsmith.settings.lora import LoraSettings


class EngineDecoder:
    """ocrsmith's decoding, all of it: threads, encoder, prompts, graphs, continuous batching, loop control."""

    name = "ours"

    def __init__(
        self,
        model: OcrModel,
        *,
        adapter: bool = True,
        apart: bool = False,
        processor: OcrProcessor | None = None,
    ) -> None:
        """
        Args:
            model: gets a fresh adapter if `adapter` is set.
            apart: whether an unmerged adapter stays apart, also where memory would allow folding it in.
            processor: as the workload has it; None: of prepared batches nothing else is asked.
        """
        self.model: Any = add_lora(model, LoraSettings()) if adapter else model
        self.apart = apart
        self.processor = processor or OcrProcessor(
            load_processor("nano").tokenizer, ProcessingSettings(prompt=PROMPT)
        )
        self._engine: NativeEngine | None = None
        self._made_for: tuple[int, int, bool] | None = None

    def merge(self) -> None:
        """Adds the adapter to the weights and takes it off."""
        self.model = merge_adapter(self.model)

    def read(self, files: Sequence[bytes], tokens: int, *, rows: int, longest: int) -> list[Prediction]:
        """Reads image files, `tokens` for each; up to `rows` at a time.

        Args:
            longest: the largest `tokens` of all calls, so that they share buffers and graphs.
        """
        engine = self._make_engine(rows, longest)
        engine.decoding = engine.decoding.model_copy(update={"max_new_tokens": tokens})
        requests = [PageRequest(str(number), file) for number, file in enumerate(files)]
        answers = list(engine.read(requests))
        for answer in answers:
            if answer.error or answer.tokens != tokens:
                raise RuntimeError(answer.error or f"{answer.tokens} tokens instead of {tokens}")
        return answers

    def generate(self, batch: dict[str, Any], tokens: int) -> Tensor:
        """Tokens for a batch of `collate`, exactly so many for each row, without loop control: (B, tokens)."""
        engine = self._make_engine(len(batch["input_ids"]), tokens, loop_control=False)
        rows = [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        packed = {**batch, "input_ids": torch.cat(rows)[None]}
        pages = [
            Page(PageRequest(str(number), b""), Encoded(ids.tolist(), None, []), tokens, 0.0)
            for number, ids in enumerate(rows)
        ]
        batcher = engine._take_batcher(len(pages))
        with Feed([[page.request for page in pages]], lambda _: (Group(pages, packed), []), workers=1) as feed:
            for finished in batcher.read(feed):
                if isinstance(finished, Prediction) or finished[1] is not None:
                    raise RuntimeError(str(finished))
        return torch.tensor([page.tokens for page in pages])

    def _make_engine(self, rows: int, longest: int, *, loop_control: bool = True) -> NativeEngine:
        wanted = (rows, longest, loop_control)
        if self._engine is None or self._made_for != wanted:
            self._engine, self._made_for = None, wanted  # the old one's buffers go first
            self._engine = NativeEngine(
                self.model,
                self.processor,
                decoding=DecodingSettings(max_new_tokens=longest, ngram_size=30 if loop_control else 0),
                batch_size=rows,
                fold_adapter=False if self.apart else None,
                fixed_length=True,
            )
        return self._engine
