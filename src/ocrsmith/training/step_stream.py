"""The samples of every optimiser step, in order, prepared ahead: workers decode, a side stream copies.

One loader serves the whole run: at the end of an epoch nothing is emptied and filled anew.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from ocrsmith.training.collate import LengthGroups, StepBatch, StepCollator, TrainingSamples

if TYPE_CHECKING:
    from ocrsmith.training.feature_cache import FeatureCache

READY = 2
"""Steps that wait on the GPU for their turn."""


class StepOrder:
    """Numbers of the samples of each step; the order depends on seed and epoch alone."""

    def __init__(
        self,
        samples: int,
        per_step: int,
        seed: int,
        *,
        first: int = 0,
        last: int,
        grouping: LengthGroups | None = None,
    ) -> None:
        """
        Args:
            samples: their number.
            per_step: samples of a step; the last step of an epoch has the rest.
            seed: of the order.
            first, last: steps of the run to begin with, and to end before.
            grouping: gives the order in place of a plain random one.
        """
        self.samples = samples
        self.per_step = per_step
        self.seed = seed
        self.first = first
        self.last = last
        self.grouping = grouping

    def epoch(self, number: int) -> list[int]:
        """All samples in the order of that epoch."""
        if self.grouping is not None:
            self.grouping.set_epoch(number)
            return list(self.grouping)
        generator = torch.Generator().manual_seed(self.seed + number)
        order: list[int] = torch.randperm(self.samples, generator=generator).tolist()
        return order

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = -(-self.samples // self.per_step)
        epoch, order = -1, []
        for step in range(self.first, self.last):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = self.epoch(epoch)
            start = step % per_epoch * self.per_step
            yield order[start : start + self.per_step]

    def __len__(self) -> int:
        return self.last - self.first


class StepStream:
    """Iterates over the run's steps as batches on the device.

    On a GPU a thread keeps `READY` steps ahead there: what it waits for (workers, copies) the steps do not.
    """

    def __init__(
        self,
        samples: TrainingSamples,
        order: StepOrder,
        device: torch.device,
        *,
        workers: int = 0,
        ahead: int = 2,
    ) -> None:
        """
        Args:
            samples: what is trained on.
            order: which of them each step has.
            device: where the batches go.
            workers: processes that prepare steps; 0: the calling process does, on a GPU its thread.
            ahead: steps that each worker prepares in advance.
        """
        options: dict[str, Any] = {"num_workers": workers}
        if workers:
            options["prefetch_factor"] = ahead
        loader: DataLoader = DataLoader(
            samples,
            batch_sampler=order,
            collate_fn=StepCollator(samples.processor, cached=samples.cache is not None),
            pin_memory=device.type == "cuda",
            generator=torch.Generator().manual_seed(order.seed),  # leaves the run's random numbers alone
            **options,
        )
        self._batches: Iterator[StepBatch] = iter(loader)
        self._cache = samples.cache
        self._thread = _Thread(self._batches, device, samples.cache) if device.type == "cuda" else None

    def __iter__(self) -> StepStream:
        return self

    def __next__(self) -> StepBatch:
        if self._thread is not None:
            return self._thread.next()
        batch = next(self._batches)
        if self._cache is not None:
            batch.image_features = self._cache.gather(batch.indices)
        return batch

    def close(self) -> None:
        """Ends thread and workers."""
        if self._thread is not None:
            self._thread.close()
        self._batches = iter(())


class _Thread:
    """Takes batches from an iterator, copies them to the GPU on a stream of its own, and holds them ready."""

    def __init__(self, batches: Iterator[StepBatch], device: torch.device, cache: FeatureCache | None) -> None:
        self.device = device
        self.cache = cache
        self.stream = torch.cuda.Stream(device)
        self.ready: queue.Queue[Callable[[], StepBatch]] = queue.Queue(READY)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(batches,), name="steps", daemon=True)
        self.thread.start()

    def next(self) -> StepBatch:
        """The next batch; the current stream waits for its copy, the host does not."""
        return self.ready.get()()

    def close(self) -> None:
        self.ended.set()  # it may wait for a worker: that is not worth waiting for
        self.thread.join(timeout=5)

    def _run(self, batches: Iterator[StepBatch]) -> None:
        if self.device.index is not None:
            torch.cuda.set_device(self.device)
        try:
            for batch in batches:
                self._put(self._copy(batch))
                if self.ended.is_set():
                    return
            self._put(_raiser(StopIteration()))
        except BaseException as error:  # handed on to whoever asks for the next batch
            self._put(_raiser(error))

    def _copy(self, batch: StepBatch) -> Callable[[], StepBatch]:
        with torch.cuda.stream(self.stream):
            moved = batch.to(self.device, non_blocking=True).resized()
            if self.cache is not None:
                moved.image_features = self.cache.gather(batch.indices, self.device)
            copied = self.stream.record_event()

        def take() -> StepBatch:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(copied)
            moved.record_stream(current)
            return moved

        return take

    def _put(self, item: Callable[[], StepBatch]) -> None:
        while not self.ended.is_set():
            try:
                self.ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return


def _raiser(error: BaseException) -> Callable[[], StepBatch]:
    def take() -> StepBatch:
        raise error

    return take


def length_groups(lengths: Sequence[int] | None, batch_size: int, seed: int) -> LengthGroups | None:
    """The sampler that puts samples of like length together, where that is wanted."""
    return None if lengths is None else LengthGroups(lengths, batch_size, seed)
