"""Loss and gradient norm on their way to the log: copied to the host without making it wait for the GPU."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(slots=True)
class Noted:
    """A line of the log that is due; its two measured figures may still be on their way."""

    step: int
    epoch: float | None
    steps: int
    """Since the line before."""
    learning_rate: float
    counts: tuple[int, int]
    """Samples and tokens since the line before."""
    figures: Tensor
    """(2,) float32 on the host: sum of the steps' losses, and the last gradient norm."""
    copied: torch.cuda.Event | None

    def read(self) -> tuple[float, float]:
        """Mean loss of the steps, and gradient norm; waits for the copy."""
        if self.copied is not None:
            self.copied.synchronize()
        loss, norm = self.figures.tolist()
        return loss / self.steps, norm


class Notes:
    """Lines of the log in order, each kept until it has arrived, or `lag` newer ones wait behind it."""

    def __init__(self, device: torch.device, lag: int | None = None) -> None:
        """`lag`: lines that may wait; None: one on a GPU, which so always has a step to work on, else none."""
        self.lag = (1 if device.type == "cuda" else 0) if lag is None else lag
        self.waiting: deque[Noted] = deque()

    def add(self, line: Noted) -> None:
        """Queues a line."""
        self.waiting.append(line)

    def take(self, *, all_of_them: bool) -> list[Noted]:
        """The lines that are to be written now."""
        lines = []
        while len(self.waiting) > (0 if all_of_them else self.lag):
            lines.append(self.waiting.popleft())
        return lines


def to_host(loss: Tensor, norm: Tensor | float | None) -> tuple[Tensor, torch.cuda.Event | None]:
    """Copies (loss, norm) to a (2,) float32 tensor on the host, and gives the event of its arrival."""
    if norm is None:
        norm = float("nan")
    both = torch.stack([loss.detach().float().reshape(()), _scalar(norm, loss.device)])  # (2,)
    if loss.device.type != "cuda":
        return both, None
    host = torch.empty(2, dtype=torch.float32, pin_memory=True)
    host.copy_(both, non_blocking=True)
    return host, torch.cuda.current_stream(loss.device).record_event()


def _scalar(value: Tensor | float, device: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().float().reshape(()).to(device, non_blocking=True)
    return torch.full((), float(value), dtype=torch.float32, device=device)
