"""Decodes with one engine for the decoding benchmark, as `decode.py` tells it; see `worker.py`."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.clock import Clock, peak_gib, reset_peak
from benchmarks.peers import make_decoder
from benchmarks.train_worker import DTYPES
from benchmarks.worker import Message, serve
from benchmarks.workloads import WORKLOADS, balance_routers, make_batches, make_model, to_device


class DecodingBench:
    """An engine that writes a given number of tokens for a batch of pages."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.device = torch.device(settings["device"])
        self.clock = Clock(self.device)
        if self.device.type == "cuda" and not settings["cudnn_attention"]:
            torch.backends.cuda.enable_cudnn_sdp(False)
        model = make_model(settings["size"], dtype=DTYPES[settings["dtype"]], device=self.device)
        (pages,) = make_batches(settings["size"], WORKLOADS[settings["workload"]], 1, 1)
        balance_routers(model, to_device(pages, self.device))
        self.peer = make_decoder(settings["engine"], model, settings["adapter"])
        del model
        gc.collect()

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        """Times one batch size.

        Returns:
            whole: seconds with image encoding and prefill, of each repetition; prefill: seconds of the same up
            to and with the first token; first_ids: what the first page's answer begins with.
        """
        batch, tokens = request["batch"], request["tokens"]
        (pages,) = make_batches(
            self.settings["size"], WORKLOADS[self.settings["workload"]], batch, 1, answers=False
        )
        pages = to_device(pages, self.device)
        prompt = pages["input_ids"].shape[1]
        reset_peak(self.device)
        self._seconds(pages, min(tokens, 4))  # warm-up
        whole, prefill = [], []
        for _ in range(request["repeats"]):
            prefill.append(self._seconds(pages, 1)[0])
            seconds, ids = self._seconds(pages, tokens)
            whole.append(seconds)
        peak = peak_gib(self.device)
        del pages
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # the other engines share the card
        return {
            "whole": whole,
            "prefill": prefill,
            "prompt_tokens": prompt,
            "first_ids": ids[0, :16].tolist(),
            "peak_gib": peak,
        }

    def _seconds(self, pages: dict[str, Any], tokens: int) -> tuple[float, torch.Tensor]:
        start = self.clock.now()
        ids = self.peer.generate(pages, tokens)
        return self.clock.now() - start, ids


def start(settings: Message) -> tuple[Message, Callable[[Message], Message]]:
    """Sets the engine up."""
    return {"ready": True}, DecodingBench(settings).respond


if __name__ == "__main__":
    serve(start)
