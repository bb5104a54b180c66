"""Steps of greedy decoding for many sequences at once, all on the device: a token for each row and step.

The state of every row (a sequence in a slot of the cache) lies in tensors that stay where they are. A step runs
the decoder, applies loop control, takes the likeliest token, and notes which rows have ended; on a GPU a CUDA
graph of it is replayed. The host asks for news after several steps, and may ask late: rows that ended stay as
they are.

Letters: S rows, B ≤ S of them stepping, G columns for generated tokens, V vocabulary, N steps of a chunk.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ocrsmith.engines.native.loop_control import DeviceLoopControl
from ocrsmith.model.decode_step import StepModel
from ocrsmith.model.static_cache import KeptPrompt, KeyValueSlots


@dataclass(slots=True)
class Rows:
    """What is known of each row, on the device."""

    tokens: Tensor
    """(S,) the latest token, which the next step takes in."""
    positions: Tensor
    """(S,) its place in the sequence."""
    counts: Tensor
    """(S,) tokens generated so far."""
    limits: Tensor
    """(S,) tokens that may be generated."""
    done: Tensor
    """(S,) bool: ended, or nothing there."""
    history: Tensor
    """(S, G + 1) generated tokens; the last column takes what ended rows would write."""
    logprobs: Tensor
    """(S, G + 1) float32: the model's own log-probability of each, before loop control."""

    @classmethod
    def empty(cls, rows: int, columns: int, device: torch.device) -> Rows:
        """Rows without sequences."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.long, device=device)

        return cls(
            tokens=zeros(rows),
            positions=zeros(rows),
            counts=zeros(rows),
            limits=zeros(rows),
            done=torch.ones(rows, dtype=torch.bool, device=device),
            history=zeros(rows, columns + 1),
            logprobs=torch.zeros(rows, columns + 1, device=device),
        )

    def first(self, count: int) -> Rows:
        """Views of the first rows."""
        return Rows(*(getattr(self, field.name)[:count] for field in fields(self)))

    def move(self, source: int, target: int) -> None:
        """Copies a row over another; the source counts as ended."""
        for field in fields(self):
            tensor: Tensor = getattr(self, field.name)
            tensor[target].copy_(tensor[source])
        self.done[source] = True


@dataclass(frozen=True, slots=True)
class Seat:
    """A sequence that begins."""

    row: int
    place: int
    """Among the prompts of its pass."""
    start: int
    """Its first token in the packed row."""
    length: int
    """Tokens of its prompt."""
    limit: int
    """Tokens that may be generated, ≥ 1."""


@dataclass(frozen=True, slots=True)
class News:
    """What has become of the rows: on the host once `ready` has passed."""

    state: Tensor
    """(B, 2 + N + 1) int64: count, ended, and the latest tokens."""
    logprobs: Tensor
    """(B, N + 1) float32 of the latest tokens."""
    ready: torch.cuda.Event | None

    def read(self) -> tuple[list[list[int]], list[list[float]]]:
        """Both as lists; waits where they are still on their way."""
        if self.ready is not None:
            self.ready.synchronize()
        return self.state.tolist(), self.logprobs.tolist()


class Stepper:
    """Holds rows and cache, and moves them on."""

    def __init__(
        self,
        model: StepModel,
        cache: KeyValueSlots,
        columns: int,
        *,
        eos: int,
        pad: int,
        control: DeviceLoopControl | None,
        chunk: int,
        graphs: bool = True,
    ) -> None:
        """
        Args:
            model: the decoder.
            cache: gives the number of rows.
            columns: G, the largest limit of any sequence to come.
            eos, pad: ids that end a sequence (-1: none does), and that ended rows go on with.
            control: loop control; None: none.
            chunk: N, steps between two looks of the host.
            graphs: whether CUDA graphs may be used.
        """
        self.model, self.cache, self.columns = model, cache, columns
        self.eos, self.pad, self.control, self.chunk = eos, pad, control, chunk
        self.device = model.device
        self.rows = Rows.empty(cache.slots, columns, self.device)
        self.graphs = graphs and model.capturable
        self._captured: dict[int, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None

    @torch.inference_mode()
    def admit(self, seats: Sequence[Seat], prompt: KeptPrompt, logits: Tensor) -> None:
        """Seats new sequences and takes their first tokens.

        Args:
            seats: where each goes.
            prompt: keys and values of a pass over packed prompts.
            logits: (prompts of the pass, V) of the tokens after the prompts.
        """
        for seat in seats:
            self.cache.store(seat.row, prompt, seat.start, seat.start + seat.length)
        table = [[seat.row, seat.place, seat.length, seat.limit] for seat in seats]
        where, places, lengths, limits = to_device(torch.tensor(table), self.device).unbind(1)
        scores = logits[places].float()
        tokens = scores.argmax(dim=-1)  # nothing repeats itself yet, so loop control has nothing to say
        state = self.rows
        state.tokens[where] = tokens
        state.positions[where] = lengths
        state.counts[where] = 1
        state.limits[where] = limits
        state.done[where] = (tokens == self.eos) | (limits <= 1)
        state.history[where, 0] = tokens
        state.logprobs[where, 0] = scores.gather(1, tokens[:, None])[:, 0] - scores.logsumexp(dim=-1)

    @torch.inference_mode()
    def run(self, batch: int, used: int) -> News:
        """A chunk of steps.

        Args:
            batch: B, the first rows, which step.
            used: places of the slots that they will have filled at most.
        """
        graph = self._graph(batch) if self.graphs else None
        for _ in range(self.chunk):
            if graph is not None:
                graph.replay()
                continue
            if self.device.type == "cpu" and bool(self.rows.done[:batch].all()):
                break
            self._step(batch, used)
        return self._news(batch)

    @torch.inference_mode()
    def end(self, row: int) -> None:
        """Ends a sequence before it would."""
        self.rows.done[row] = True

    @torch.inference_mode()
    def end_all(self) -> None:
        """Ends every sequence."""
        self.rows.done.fill_(True)

    @torch.inference_mode()
    def move(self, source: int, target: int, used: int) -> None:
        """Takes a sequence to another row; `used` places of its slot are filled at most."""
        self.cache.move(source, target, used)
        self.rows.move(source, target)

    @torch.inference_mode()
    def lengthen(self, length: int) -> None:
        """Makes the slots longer.

        Raises:
            torch.OutOfMemoryError: there is no room; the stepper is of no use then.
        """
        self._forget_graphs()
        self.cache.resize(self.cache.slots, length)

    def _step(self, batch: int, used: int) -> None:
        state = self.rows.first(batch)
        logits = self.model(state.tokens, state.positions, self.cache, used)
        going = ~state.done
        state.positions.add_(going)
        scores = logits.float()  # (B, V)
        total = scores.logsumexp(dim=-1)  # of the model's own scores
        if self.control is not None:
            scores = self.control(scores, state.history, state.counts)
        tokens = scores.argmax(dim=-1)
        logprobs = scores.gather(1, tokens[:, None])[:, 0] - total
        column = torch.where(state.done, self.columns, state.counts)[:, None]
        state.history.scatter_(1, column, tokens[:, None])
        state.logprobs.scatter_(1, column, logprobs[:, None])
        state.counts.add_(going)
        state.tokens.copy_(torch.where(state.done, self.pad, tokens))
        state.done.logical_or_((tokens == self.eos) | (state.counts >= state.limits))

    def _news(self, batch: int) -> News:
        state, width = self.rows.first(batch), self.chunk + 1  # the first token came with the prompt
        places = state.counts[:, None] - width + torch.arange(width, device=self.device)
        places = places.clamp(min=0)
        numbers = torch.stack([state.counts, state.done.long()], dim=1)
        numbers = torch.cat([numbers, state.history.gather(1, places)], dim=1)
        logprobs = state.logprobs.gather(1, places)
        if self.device.type != "cuda":
            return News(numbers, logprobs, None)
        ready = torch.cuda.Event()
        hosts = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in (numbers, logprobs)]
        for host, source in zip(hosts, (numbers, logprobs), strict=True):
            host.copy_(source, non_blocking=True)
        ready.record()
        return News(hosts[0], hosts[1], ready)

    def _graph(self, batch: int) -> torch.cuda.CUDAGraph | None:
        """The captured step of so many rows; None where it cannot be captured, which is said once."""
        if batch not in self._captured:
            state = self.rows.first(batch)
            tokens, done = state.tokens.clone(), state.done.clone()
            state.done.fill_(True)  # rows that ended keep all that counts, however often they step
            try:
                self._captured[batch] = self._capture(batch)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self.graphs = False
                self._forget_graphs()
                reason = str(error).splitlines()[0]
                warnings.warn(f"decoding runs without CUDA graphs, hence slower: {reason}", stacklevel=2)
            finally:
                state.tokens.copy_(tokens)
                state.done.copy_(done)
        return self._captured.get(batch)

    def _capture(self, batch: int) -> torch.cuda.CUDAGraph:
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):  # compiles kernels, and lets libraries allocate what they keep
            for _ in range(2):
                self._step(batch, self.cache.length)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._step(batch, self.cache.length)
        self._pool = graph.pool()
        return graph

    def _forget_graphs(self) -> None:
        if self._captured:
            torch.cuda.synchronize(self.device)  # they may still run, and their memory is given back
        self._captured.clear()
        self._pool = None


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """Sends a tensor without waiting for the device."""
    if device.type != "cuda":
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)
