"""Decodes with one engine for the decoding benchmark, as `decode.py` tells it; see `worker.py`."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.clock import Clock, peak_gib, reset_peak
from benchmarks.peers import make_decoder
from benchmarks.train_worker import DTYPES
from benchmarks.worker import Message, serve
from benchmarks.workloads import (
    WORKLOADS,
    balance_routers,
    draw,
    encode_file,
    make_batches,
    make_model,
    make_processor,
    to_device,
)

DRAWN = 32
"""Different pictures; more pages show them again."""


class DecodingBench:
    """An engine that writes a given number of tokens for every page."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.size, self.workload = settings["size"], WORKLOADS[settings["workload"]]
        self.device = torch.device(settings["device"])
        self.clock = Clock(self.device)
        if self.device.type == "cuda" and not settings["cudnn_attention"]:
            torch.backends.cuda.enable_cudnn_sdp(False)
        model = make_model(self.size, dtype=DTYPES[settings["dtype"]], device=self.device)
        (pages,) = make_batches(self.size, self.workload, 1, 1)
        balance_routers(model, to_device(pages, self.device))
        self.processor = make_processor(self.size, self.workload)
        self.peer = make_decoder(settings["engine"], model, settings["adapter"], self.processor)
        del model
        gc.collect()

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        """Times one batch size.

        Args:
            request: batch, pages (a multiple of it), tokens, repeats.
        Returns:
            whole: seconds with image encoding and prefill, of each repetition; prefill: seconds of the same up
            to and with the first token; warm_up: seconds of the first call of all.
        """
        batch, tokens = request["batch"], request["tokens"]
        pages = request.get("pages", batch)
        run = (
            self._from_files(batch, pages, tokens)
            if self.peer.name == "ours"
            else self._from_tensors(batch, pages)
        )
        reset_peak(self.device)
        warm_up = self._seconds(run, tokens if self.peer.name == "ours" else min(tokens, 4))
        whole, prefill = [], []
        for _ in range(request["repeats"]):
            prefill.append(self._seconds(run, 1))
            whole.append(self._seconds(run, tokens))
        peak = peak_gib(self.device)
        del run
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # the other engines share the card
        return {
            "whole": whole,
            "prefill": prefill,
            "warm_up": warm_up,
            "pages": pages,
            "prompt_tokens": self.processor.count_tokens([(self.workload.width, self.workload.height)]),
            "peak_gib": peak,
        }

    def _from_files(self, batch: int, pages: int, tokens: int) -> Callable[[int], Any]:
        """Ours: from image files, as the command reads them; pages beyond the batch take rows that get free."""
        drawn = [encode_file(draw(self.workload, seed), self.workload) for seed in range(min(pages, DRAWN))]
        files = [drawn[number % len(drawn)] for number in range(pages)]
        return partial(self.peer.read, files, rows=batch, longest=tokens)

    def _from_tensors(self, batch: int, pages: int) -> Callable[[int], Any]:
        """The reference: from tensors on the device, made in advance, one batch after the other."""
        (one,) = make_batches(self.size, self.workload, batch, 1, answers=False)
        one = to_device(one, self.device)

        def run(tokens: int) -> None:
            for _ in range(pages // batch):
                self.peer.generate(one, tokens)

        return run

    def _seconds(self, run: Callable[[int], Any], tokens: int) -> float:
        start = self.clock.now()
        run(tokens)
        return self.clock.now() - start


def start(settings: Message) -> tuple[Message, Callable[[Message], Message]]:
    """Sets the engine up."""
    return {"ready": True}, DecodingBench(settings).respond


if __name__ == "__main__":
    serve(start)
