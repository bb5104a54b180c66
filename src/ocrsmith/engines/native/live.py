"""Continuous batching for requests that come one by one, from many clients, for as long as a server runs.

    submit ──► lane of its n-gram rule: waiting ──► opened (threads) ──► rows of the batcher ──► listener

One thread decodes, for all lanes in turn; it sleeps while there is nothing to do. A row that is free goes to
the next page at once, and pages that came together go through the encoder together.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import torch

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.batching import Batcher
from ocrsmith.engines.native.engine import GROUP_SIZES, NativeEngine, evaluating
from ocrsmith.engines.native.lanes import Ending, Lane, Listener, LiveRequest, Ticket
from ocrsmith.engines.native.prefill import Page, Prefiller
from ocrsmith.engines.native.text_stream import TextStream
from ocrsmith.errors import InputError

__all__ = ["Ending", "Listener", "LiveReader", "LiveRequest", "NotReadingError", "Ticket"]

LANES = 4
"""N-gram rules at a time; requests with another one wait until a lane is free."""
IDLE_SECONDS = 60.0
"""After so long a lane without requests is closed, but for that of the engine's own rule."""
MOST_WINDOW = 1024
MOST_WHITELISTED = 256
"""What a request's rule may ask for, unless the engine's own asks for more: a step's time grows with both."""
TRIES = 3
"""Times in a row that decoding may break down before the reader gives up."""


class NotReadingError(Exception):
    """The reader was closed, or has given up. One line."""


class LiveReader:
    """Answers requests with the model of an engine, token for token as `NativeEngine.read` does.

    While it is open, the model is in evaluation mode, and its weights must stay as they are.
    """

    def __init__(self, engine: NativeEngine, *, slots: int | None = None) -> None:
        """Starts the thread; `close` ends it.

        Args:
            engine: gives model, processor, and what requests leave open.
            slots: pages decoded at a time with one rule; None takes the engine's batch size.
        """
        self.engine = engine
        self._rule = self._plain_rule(engine.decoding)
        self._changed = threading.Condition()
        cpu = engine.device.type == "cpu"
        self._threads = ThreadPoolExecutor(
            1 if cpu else min(16, os.cpu_count() or 1), thread_name_prefix="open"
        )
        self._batcher = Batcher(
            engine.step_model(),
            Prefiller(engine.network, engine.processor),
            engine.decoding,
            slots=slots or engine.batch_size,
            columns=engine.context,
        )
        self._lanes = {self._rule: self._make_lane(self._batcher)}
        self._laneless: deque[Ticket] = deque()
        """Requests with other rules, in the order in which they came, until there is a lane for them."""
        self._over: str | None = None
        """Why nothing is read any more."""
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    # --- for everybody --------------------------------------------------------------------------------------

    def submit(self, request: LiveRequest, listener: Listener) -> Ticket:
        """Takes a request; returns at once. May be called in any thread.

        Raises:
            InputError: a limit below 1, or an n-gram rule that cannot be followed.
            NotReadingError: the reader was closed, or has given up.
        """
        if request.max_tokens is not None and request.max_tokens < 1:
            raise InputError(f"max_tokens is {request.max_tokens}; it must be 1 or more.", place="max_tokens")
        own = request.decoding is None or request.decoding == self.engine.decoding
        rule = self._rule if own or request.decoding is None else self._request_rule(request.decoding)
        ticket = Ticket(request, rule, listener)
        with self._changed:
            self._check()
            if rule == self._rule:
                self._lanes[rule].put(ticket)
            else:
                self._laneless.append(ticket)
                self._changed.notify_all()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Ends a request before its time; nothing more is heard of it. Its row is free after the chunk of steps
        that is under way. Does nothing where it has ended. May be called in any thread.
        """
        with self._changed:
            if ticket.over:
                return
            if ticket.lane is not None:
                ticket.lane.cancel(ticket)
            else:
                ticket.over = True
                self._laneless.remove(ticket)

    def check(self) -> None:
        """Returns if requests are answered. Raises NotReadingError if not."""
        with self._changed:
            self._check()

    def text_stream(self) -> TextStream:
        """Turns an answer's tokens into text."""
        return TextStream(self.engine.processor.tokens)

    def close(self) -> None:
        """Ends everything; requests under way fail with NotReadingError. Waits for the thread to end."""
        with self._changed:
            self._over = self._over or "The reader was closed."
            self._changed.notify_all()
        self._thread.join()
        self._threads.shutdown(wait=True)

    def _check(self) -> None:
        if self._over is not None:
            raise NotReadingError(self._over)

    # --- what is asked for ----------------------------------------------------------------------------------

    def _open_page(self, request: LiveRequest) -> Page:
        """Raises InputError: image, prompt or limit cannot be used."""
        images = [] if request.image is None else [request.image]
        encoded = self.engine.processor.encode(images, prompt=request.prompt)
        prompt, context = encoded.num_tokens, self.engine.context
        if request.max_tokens is None:
            limit = self.engine.token_limit(prompt, request.decoding or self.engine.decoding)
        elif prompt + request.max_tokens > context:
            raise InputError(  # clients find the limit that fits by these words, which are vLLM's too
                f"This model's context length is {context} tokens, but the request has {prompt} input tokens "
                f"and asks for {request.max_tokens} more.",
                place="max_tokens",
                mend="Shorten the prompt or lower max_tokens.",
            )
        else:
            limit = request.max_tokens
        return Page(PageRequest("", b""), encoded, limit, 0.0)

    def _request_rule(self, decoding: DecodingSettings) -> DecodingSettings:
        """The rule of a request. Raises InputError where it asks too much."""
        rule, own = self._plain_rule(decoding), self._rule
        for what, asked, most in (
            ("window", rule.ngram_window, max(MOST_WINDOW, own.ngram_window)),
            ("whitelist", len(rule.ngram_whitelist), max(MOST_WHITELISTED, len(own.ngram_whitelist))),
        ):
            if asked > most:
                raise InputError(f"The n-gram {what} has {asked} tokens; the most is {most}.")
        backend = self.engine.processor.tokenizer.backend_tokenizer
        unknown = [word for word in rule.ngram_whitelist if backend.token_to_id(word) is None]
        if unknown:
            raise InputError(f"The n-gram whitelist has {unknown[0]!r}, which is no token of the model.")
        return rule

    def _plain_rule(self, decoding: DecodingSettings) -> DecodingSettings:
        """What the n-gram rule comes to: equal for rules that forbid the same."""
        size, window = decoding.ngram_size, min(decoding.ngram_window, self.engine.context)
        if size < 2 or size > window:
            return DecodingSettings(max_new_tokens=1, ngram_size=0, ngram_window=1, ngram_whitelist=())
        words = tuple(sorted(set(decoding.ngram_whitelist)))
        return DecodingSettings(max_new_tokens=1, ngram_size=size, ngram_window=window, ngram_whitelist=words)

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with evaluating(self.engine.model):
                self._decode()
        finally:
            self._fail_all()

    def _decode(self) -> None:
        """Until it is over, or decoding has broken down for good."""
        failures = 0
        while failures < TRIES and self._await_work():
            for lane in list(self._lanes.values()):
                try:
                    failures = 0 if lane.turn() else failures
                except torch.AcceleratorError:
                    return
                except Exception as error:
                    failures += 1
                    lane.begin_anew(error)

    def _fail_all(self) -> None:
        with self._changed:
            self._over = self._over or "Decoding broke down for good."
            waiting = list(self._laneless)
            self._laneless.clear()
        end = NotReadingError(self._over)
        for lane in self._lanes.values():
            lane.close(end)
        for ticket in waiting:
            ticket.fail(end)

    def _await_work(self) -> bool:
        """Sleeps until there is something to decode; False: it is over."""
        with self._changed:
            while self._over is None:
                self._route()
                self._close_idle(IDLE_SECONDS)
                if any(lane.has_work for lane in self._lanes.values()):
                    return True
                self._changed.wait(IDLE_SECONDS if len(self._lanes) > 1 else None)
        return False

    def _route(self) -> None:
        """Sends requests with rules of their own to lanes; in order, so that no rule waits for ever."""
        while self._laneless:
            rule = self._laneless[0].rule
            if rule not in self._lanes:
                if len(self._lanes) >= LANES:
                    self._close_idle(0.0)
                if len(self._lanes) >= LANES:
                    return
                first = self._batcher
                batcher = Batcher(first.model, first.prefill, rule, slots=first.asked, columns=first.columns)
                self._lanes[rule] = self._make_lane(batcher)
            self._lanes[rule].put(self._laneless.popleft())

    def _close_idle(self, seconds: float) -> None:
        for rule, lane in list(self._lanes.items()):
            if lane.is_idle and lane.idle_seconds() >= seconds and rule != self._rule:
                lane.close(NotReadingError("The lane was closed."))
                del self._lanes[rule]

    def _make_lane(self, batcher: Batcher) -> Lane:
        size = min(GROUP_SIZES.get(self.engine.device.type, 4), batcher.slots)
        return Lane(
            batcher, open_page=self._open_page, threads=self._threads, changed=self._changed, group=size
        )
