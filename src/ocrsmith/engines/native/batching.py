"""Continuous batching: a page that is finished gives its row to the next one at once.

On a GPU the host looks at the rows a chunk of steps late, so that the device never waits for it, and images and
prompts of the next pages run beside the decoding. When no pages are left, rows move together and fewer step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.feed import Feed, Source
from ocrsmith.engines.native.loop_control import DeviceLoopControl
from ocrsmith.engines.native.loop_end import LOOP_CHECK_EVERY, LOOP_TAIL, LOOP_TOKENS, ended_in_loop, is_endless
from ocrsmith.engines.native.prefill import Group, Page, Prefiller, Staged
from ocrsmith.engines.native.stepping import News, Seat, Stepper
from ocrsmith.model.decode_step import StepModel
from ocrsmith.model.static_cache import KeyValueSlots, bytes_per_token
from ocrsmith.records import FinishReason, Prediction

CHUNK = {"cpu": 4, "cuda": 8}
"""Steps between two looks of the host."""
LATE = {"cpu": 0, "cuda": 1}
"""Chunks that are under way while the host looks at an earlier one."""
FIRST_TOKENS = 512
"""Generated tokens that slots have room for at first; they are made longer when needed."""
ROUND = 64
REST_LENGTH = 2 * FIRST_TOKENS
"""Places of a slot that are kept while there is nothing to do; buffers that grew beyond are given back."""


@dataclass(slots=True)
class _Chunk:
    """A chunk of steps under way."""

    news: News
    seats: list[tuple[int, Page]]
    """Rows and pages when it began."""


class Batcher:
    """Decodes pages in up to `slots` rows."""

    def __init__(
        self,
        model: StepModel,
        prefill: Prefiller,
        decoding: DecodingSettings,
        *,
        slots: int,
        columns: int,
        fixed_length: bool = False,
    ) -> None:
        """
        Args:
            model, prefill: the decoder, and what goes before it.
            decoding: limits and loop control.
            slots: pages that may be decoded at a time; fewer when memory is short.
            columns: the largest limit of a page.
            fixed_length: every page gets as many tokens as its limit says, for benchmarks.
        """
        self.model, self.prefill, self.decoding = model, prefill, decoding
        self.columns, self.fixed_length = columns, fixed_length
        self.slots = self.asked = slots
        self.fits = slots
        """Rows that memory has had room for."""
        self.device = model.device
        self.chunk, self.late = CHUNK.get(self.device.type, 4), LATE.get(self.device.type, 0)
        self.stream = torch.cuda.Stream(self.device, priority=-1) if self.device.type == "cuda" else None
        self.stepper: Stepper | None = None
        self._clear()

    def _clear(self) -> None:
        self._seated: list[Page | None] = []
        self._staged: deque[Staged] = deque()
        self._again: deque[Group] = deque()
        self._alone: deque[Page] = deque()
        self._pending: deque[_Chunk] = deque()
        self._out: list[Finished] = []

    def read(self, feed: Feed) -> Iterator[Finished]:
        """Decodes all pages of a feed; yields them as they finish, and those that the feed found broken."""
        with self.session():
            while feed or self.busy:
                yield from self.turn(feed)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Around the turns of one reading; pages that are still there at its end are forgotten."""
        self._clear()
        if self.stepper is not None and self.stepper.cache.slots < self.slots:
            self.stepper = None
        self._seated = [None] * self.slots
        for stream in (self.stream, self.prefill.stream):
            if stream is not None:
                stream.wait_stream(torch.cuda.current_stream())
        try:
            yield
        finally:
            if self.stream is not None:
                torch.cuda.synchronize(self.device)  # nothing may be under way when buffers are given back
            if self.stepper is not None:
                self.stepper.end_all()
            self._clear()

    def turn(self, feed: Source) -> list[Finished]:
        """One round: pages in, a chunk of steps, news out. Gives what has come to its end."""
        begin = time.perf_counter()
        with torch.cuda.stream(self.stream) if self.stream is not None else nullcontext():
            self._round(feed)
        self._share(time.perf_counter() - begin)
        finished, self._out = self._out, []
        return finished

    @property
    def busy(self) -> bool:
        """Whether pages are under way."""
        return bool(self._again or self._alone or self._staged or self.active)

    @property
    def active(self) -> list[Page]:
        """Pages that are being decoded."""
        return [page for page in self._seated if page is not None]

    def drop(self, page: Page) -> None:
        """Lets go of a page under way, wherever it is; its row is free at once."""
        page.finish = "error"  # steps that are under way have nothing to say of it
        if page in self._seated:
            self._seated[page.row] = None
            if self.stepper is not None:
                self.stepper.end(page.row)
        if page in self._alone:
            self._alone.remove(page)
        for group in self._again:
            group.pages = [other for other in group.pages if other is not page]
        self._again = deque(group for group in self._again if group.pages)
        for staged in self._staged:
            staged.waiting = [place for place in staged.waiting if place[0] is not page]
        self._staged = deque(staged for staged in self._staged if staged.waiting)

    def rest(self) -> None:
        """Between two times of work: all rows again, and no buffers kept that only an odd page needed."""
        if self.device.type == "cpu" and self.stepper and self.stepper.cache.length > REST_LENGTH:
            self.release()
        self.fits = self.asked
        self._widen()

    def release(self) -> None:
        """Gives the buffers back."""
        self.stepper = None

    def _round(self, feed: Source) -> None:
        """Pages in, steps on, news out."""
        try:
            while self._stage(feed):
                self._seat()
                if (self.late or feed.live) and len(self.active) >= self.slots / 2:
                    break  # the rows that are full go on between two groups
            self._seat()
            if self.active:
                self._step()
            while len(self._pending) > (self.late if self.active else 0):
                self._hear(self._pending.popleft())
        except Exception as error:
            self._recover(error)

    def _share(self, seconds: float) -> None:
        """Puts time down to the pages that were worked on; their sum is the time of the whole."""
        pages = [out[0] for out in self._out if isinstance(out, tuple)]
        pages = pages + self.active or [page for staged in self._staged for page, _, _ in staged.waiting]
        for page in pages:
            page.seconds += seconds / len(pages)

    # --- pages in -------------------------------------------------------------------------------------------

    def _stage(self, feed: Source) -> bool:
        """Starts the prompts of the next group, if it is its time."""
        group = self._next_group(feed)
        if group is None:
            return False
        if group.pages:
            try:
                self._staged.append(self.prefill(group))
            except Exception as error:
                self._divide(group, error)
        return True

    def _next_group(self, feed: Source) -> Group | None:
        """A group, where there are empty rows for it; on a GPU also one ahead of that."""
        waiting = sum(len(staged.waiting) for staged in self._staged)
        free = self.slots - len(self.active) - waiting
        idle = not self.active and not waiting
        if self._again:
            return self._again.popleft() if free > 0 or idle else None
        if self._alone and (feed.live or not feed):
            return self._next_alone() if idle else None
        if not feed:
            return None
        if idle:
            self._widen()
        ahead = bool(self.late) and not waiting
        if not (free > 0 or ahead):
            return None
        made = feed.next(wait=free >= self.slots / 2)
        if made is None:
            return None
        self._out.extend(made[1])
        return made[0]

    def _next_alone(self) -> Group:
        """A page that gets all the memory for itself."""
        self.release()
        self.slots, self._seated = 1, [None]
        return Group([self._alone.popleft()])

    def _widen(self) -> None:
        """All rows again, after a page that had the memory for itself."""
        if self.slots < self.fits:
            self.release()
            self.slots, self._seated = self.fits, [None] * self.fits

    def _divide(self, group: Group, error: Exception) -> None:
        """After a group's failure its parts are tried, so that one page does not take others with it."""
        short = isinstance(error, torch.OutOfMemoryError)
        reason = _without_frames(error)
        if short:
            torch.cuda.empty_cache()
        if len(group.pages) > 1:
            half = (len(group.pages) + 1) // 2
            self._again.extendleft([Group(group.pages[half:]), Group(group.pages[:half])])
            if short:
                self._shrink(half)
        elif short and (self.active or self._staged):
            self._alone.append(group.pages[0])  # once nothing else takes memory
        else:
            self._out.append((group.pages[0], reason))

    def _seat(self) -> None:
        """Gives empty rows to pages whose prompts are done."""
        while self._staged:
            staged = self._staged[0]
            if not staged.is_ready and len(self.active) >= self.slots / 2:
                return
            stepper = self._make_room([page for page, _, _ in staged.waiting])
            empty = [row for row, page in enumerate(self._seated[: self.slots]) if page is None]
            taken = staged.waiting[: len(empty)]
            if not taken:
                return
            staged.hand_over()
            seats = []
            for row, (page, place, start) in zip(empty, taken, strict=False):
                self._seated[row], page.row, page.steps = page, row, 1
                seats.append(Seat(row, place, start, page.prompt, page.limit))
            stepper.admit(seats, staged.prompt, staged.logits)
            staged.waiting = staged.waiting[len(taken) :]
            if staged.waiting:
                return
            self._staged.popleft()

    def _make_room(self, pages: Sequence[Page]) -> Stepper:
        """A stepper whose slots are long enough for the pages to begin."""
        if self.stepper is None:
            first = max(page.prompt + min(page.limit, FIRST_TOKENS) for page in pages)
            self.stepper = self._make_stepper(-(-first // ROUND) * ROUND)
        else:
            self._lengthen(max(page.prompt + 1 for page in pages))
        return self.stepper

    def _make_stepper(self, length: int) -> Stepper:
        sizes, dtype = self.model.sizes, self.model.cos.dtype
        if self.device.type == "cuda":
            room = free_bytes(self.device) * 0.7  # the rest is for prompts, steps and graphs
            self._shrink(int(room // (length * bytes_per_token(sizes, dtype))))
        tokens = self.prefill.processor.tokens
        control = None
        if self.decoding.ngram_size:
            allowed = self.decoding.whitelist_ids(self.prefill.processor.tokenizer)
            control = DeviceLoopControl(
                self.decoding.ngram_size, self.decoding.ngram_window, allowed, self.device
            )
        with torch.inference_mode():
            cache = KeyValueSlots(sizes, self.slots, length, self.device, dtype)
            return Stepper(
                self.model,
                cache,
                self.columns,
                eos=-1 if self.fixed_length else tokens.eos,
                pad=tokens.pad,
                control=control,
                chunk=self.chunk,
            )

    def _lengthen(self, need: int) -> None:
        """Makes the slots long enough, twice as long at least."""
        assert self.stepper is not None
        length = self.stepper.cache.length
        if need > length:
            largest = max((page.prompt + page.limit for page in self._everyone()), default=need)
            self.stepper.lengthen(max(need, min(2 * length, -(-largest // ROUND) * ROUND)))

    def _everyone(self) -> Iterator[Page]:
        yield from self.active
        for staged in self._staged:
            yield from (page for page, _, _ in staged.waiting)

    # --- steps and news -------------------------------------------------------------------------------------

    def _step(self) -> None:
        """Starts a chunk of steps of all rows that are taken."""
        assert self.stepper is not None
        pages = self.active
        used = max(page.prompt + min(page.limit, page.steps + self.chunk) for page in pages)
        self._lengthen(used)
        batch = self._close_ranks(len(pages))
        seats = [(page.row, page) for page in pages]
        self._pending.append(_Chunk(self.stepper.run(batch, used), seats))
        for page in pages:
            page.steps = min(page.limit, page.steps + self.chunk)

    def _close_ranks(self, count: int) -> int:
        """Moves pages into the first rows; returns how many rows have to step."""
        assert self.stepper is not None
        batch = count
        if self.stepper.graphs:  # there is one for each power of two
            batch = min(self.stepper.cache.slots, 1 << (count - 1).bit_length())
        empty = [row for row, page in enumerate(self._seated[:batch]) if page is None]
        for row in range(batch, len(self._seated)):
            page = self._seated[row]
            if page is not None:
                target = empty.pop(0)
                self.stepper.move(row, target, min(page.prompt + page.steps, self.stepper.cache.length))
                self._seated[target], self._seated[row], page.row = page, None, target
        return batch

    def _hear(self, chunk: _Chunk) -> None:
        """Takes over what a chunk of steps has brought."""
        states, logprobs = chunk.news.read()
        for row, page in chunk.seats:
            if page.finish is not None:
                continue
            count, done, *latest = states[row]
            new = count - len(page.tokens)
            if new:
                page.tokens += latest[-new:]
                page.logprobs += logprobs[row][-new:]
            if not self.fixed_length and self._loops(page, len(page.tokens) - new):
                self._finish(page, "loop")
            elif done:
                self._finish(page, self._how_it_ended(page))

    def _loops(self, page: Page, before: int) -> bool:
        """Whether the page repeats itself at one of the counts where one looks; cuts it off there."""
        for count in range(before + 1, len(page.tokens) + 1):
            if count >= LOOP_TOKENS and count % LOOP_CHECK_EVERY == 0:
                tail = page.tokens[max(0, count - LOOP_TAIL) : count]
                if tail[-1] != self.prefill.processor.tokens.eos and is_endless(tail):
                    del page.tokens[count:], page.logprobs[count:]
                    return True
        return False

    def _how_it_ended(self, page: Page) -> FinishReason:
        if page.tokens[-1] == self.prefill.processor.tokens.eos and not self.fixed_length:
            return "stop"
        return "loop" if not self.fixed_length and ended_in_loop(page.tokens) else "length"

    def _finish(self, page: Page, reason: FinishReason) -> None:
        assert self.stepper is not None
        page.finish = reason
        self._seated[page.row] = None
        self.stepper.end(page.row)
        self._out.append((page, None))

    def _shrink(self, slots: int) -> None:
        """Memory has room for so many rows only."""
        self.slots = self.fits = max(1, min(self.slots, slots))

    # --- trouble --------------------------------------------------------------------------------------------

    def _recover(self, error: Exception) -> None:
        """After a step's failure: pages begin anew, with fewer rows if memory was short, else one by one."""
        short = isinstance(error, torch.OutOfMemoryError)
        reason = _without_frames(error)
        waiting = (page for staged in self._staged for page, _, _ in staged.waiting)
        pages = list(dict.fromkeys([*self.active, *waiting]))  # those that failed to sit down are in both
        several, alone = len(pages) > 1, self.slots == 1
        self._pending.clear()
        self._staged.clear()
        self.stepper = None
        if short:
            torch.cuda.empty_cache()
            if several:
                self._shrink(self.slots // 2)
        self._seated = [None] * self.slots
        for page in pages:
            page.begin_anew()
        if not several and short and not alone:
            self._alone.extend(pages)
        elif not several:
            self._out.extend((page, reason) for page in pages)
        elif short:
            self._again.extendleft(Group([page]) for page in reversed(pages))
        else:
            self._alone.extend(pages)


Finished = Prediction | tuple[Page, Exception | None]
"""What reading gives: a prediction that needs no decoding, or a page with what failed, if anything did."""


def free_bytes(device: torch.device) -> int:
    """Bytes of a GPU that a tensor could still get."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def _without_frames(error: Exception) -> Exception:
    """The error without the frames that hold its tensors."""
    error.__traceback__ = None
    return error
