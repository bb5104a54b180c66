"""Forward and backward passes of an optimiser step: ocrsmith's own, and a plain loop for the references."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.clock import Clock
from benchmarks.peers import OursPeer, Peer
from ocrsmith.training.collate import StepBatch
from ocrsmith.training.micro_batches import Division, StepLearner
from ocrsmith.training.micro_step import MicroStep

LEARN = "forward+backward"


class Steps(Protocol):
    """What an engine does for an optimiser step before the optimiser's turn."""

    waited: float
    """Seconds for which the host waited for data in the last step."""

    def __call__(self, scaler: torch.amp.GradScaler) -> Tensor:
        """Leaves the step's gradients in the parameters, scaled; returns the mean loss, unscaled."""


class OurSteps:
    """ocrsmith's: the samples of a step packed into rows, the encoder in one pass each, no autocast."""

    def __init__(
        self,
        peer: OursPeer,
        batches: Iterator[StepBatch],
        clock: Clock,
        *,
        micro: int | None = None,
        graphs: bool = True,
    ) -> None:
        """
        Args:
            peer: in training mode.
            batches: on the model's device.
            clock: is told the parts.
            micro: samples that go through the model at once; None: all of a step.
            graphs: replay passes as CUDA graphs where that is possible.
        """
        self.peer, self.batches, self.clock = peer, batches, clock
        self.waited = 0.0
        self.micro_step = MicroStep(peer.bare, graphs=graphs)
        self.learner = StepLearner(Division(micro), self.micro_step.trained, micro=self.micro_step)
        encode = peer.bare.encode_images
        peer.bare.encode_images = timed(encode, clock)  # type: ignore[method-assign]

    def __call__(self, scaler: torch.amp.GradScaler) -> Tensor:
        asked = time.perf_counter()
        batch = next(self.batches)
        self.waited = time.perf_counter() - asked
        self.clock.mark("load")
        self.learner.scaler = scaler if scaler.is_enabled() else None
        loss = self.learner(self.peer.model, batch, batch.num_labels)
        self.clock.mark(LEARN)
        return loss

    def close(self) -> None:
        """Takes off what was put on the model, and frees the graphs."""
        del self.peer.bare.encode_images
        self.micro_step.release()


class PeerSteps:
    """The references': batch after batch under autocast, gradients accumulated."""

    def __init__(
        self,
        peer: Peer,
        batches: Iterator[dict[str, Any]],
        clock: Clock,
        *,
        accumulation: int,
        autocast: torch.autocast,
    ) -> None:
        """
        Args:
            peer: in training mode.
            batches: on the model's device.
            clock: is told the parts.
            accumulation: batches of a step.
            autocast: around encoder and forward pass.
        """
        self.peer, self.batches, self.clock = peer, batches, clock
        self.accumulation, self.autocast = accumulation, autocast
        self.trained = [p for p in peer.model.parameters() if p.requires_grad]
        self.waited = 0.0

    def __call__(self, scaler: torch.amp.GradScaler) -> Tensor:
        self.waited, losses = 0.0, []
        for parameter in self.trained:
            parameter.grad = None
        for _ in range(self.accumulation):
            asked = time.perf_counter()
            batch = next(self.batches)
            self.waited += time.perf_counter() - asked
            self.clock.mark("load")
            with self.autocast:
                features = self.peer.encode(batch)
                self.clock.mark("encode")
                loss = self.peer.loss(batch, features) / self.accumulation
            self.clock.mark("forward")
            scaler.scale(loss).backward()
            self.clock.mark("backward")
            losses.append(loss.detach())
        return torch.stack(losses).sum()


def timed(encode: Callable[..., Tensor], clock: Clock) -> Callable[..., Tensor]:
    """The same, with its time told apart from what came before."""

    def run(*arguments: Any) -> Tensor:
        clock.mark(LEARN)
        features = encode(*arguments)
        clock.mark("encode")
        return features

    return run
