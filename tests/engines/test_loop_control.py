"""Loop control on the device forbids what the logits processor does; early ends are those of `is_looping`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.engines.decoding import NoRepeatNGramProcessor, is_looping
from ocrsmith.engines.native.loop_control import DeviceLoopControl
from ocrsmith.engines.native.loop_end import LOOP_REPEATS, LOOP_TAIL, LOOP_TOKENS, is_endless

VOCABULARY = 5


@given(
    rows=st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=24), min_size=1, max_size=4),
    ngram=st.integers(1, 5),
    more=st.integers(0, 12),
    whitelist=st.sets(st.integers(0, VOCABULARY - 1), max_size=2),
    spare=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_the_device_forbids_what_the_processor_forbids(
    rows: list[list[int]], ngram: int, more: int, whitelist: set[int], spare: int, seed: int
) -> None:
    """Rows of different lengths, what lies behind them in the buffer is no token of theirs."""
    window = ngram + more
    generator = torch.Generator().manual_seed(seed)
    columns = max(map(len, rows)) + 1 + spare
    history = torch.randint(0, VOCABULARY, (len(rows), columns), generator=generator)
    scores = torch.randn(len(rows), VOCABULARY, generator=generator)
    expected = []
    for number, row in enumerate(rows):
        history[number, : len(row)] = torch.tensor(row, dtype=torch.long)
        processor = NoRepeatNGramProcessor(ngram, window, whitelist)
        ids = torch.tensor([row], dtype=torch.long)
        expected.append(processor(ids, scores[number : number + 1])[0])
    control = DeviceLoopControl(ngram, window, whitelist, torch.device("cpu"))
    counts = torch.tensor([len(row) for row in rows])
    assert torch.equal(control(scores.clone(), history, counts), torch.stack(expected))


def test_a_window_shorter_than_the_ngram_forbids_nothing() -> None:
    control = DeviceLoopControl(4, 3, (), torch.device("cpu"))
    scores = torch.zeros(1, VOCABULARY)
    assert torch.equal(control(scores.clone(), torch.ones(1, 9, dtype=torch.long), torch.tensor([8])), scores)


def endings() -> list[list[int]]:
    """Text, and text that ends in repetitions of many lengths, some with strays, some too short."""
    random = np.random.default_rng(0)
    made: list[list[int]] = []
    for unit in (1, 2, 7, 47, 48, 49, 100, 191, 192, 193, 300):
        for repeated in (0, LOOP_TOKENS - 1, LOOP_TOKENS, 8 * unit - 1, 8 * unit, 9 * unit, 2000):
            for strays in (0, 0.04, 0.06, 0.2):
                tokens = random.integers(0, 50, 200).tolist()
                loop = (random.integers(0, 50, unit).tolist() * (repeated // unit + 1))[:repeated]
                for place in random.choice(len(loop), int(strays * len(loop)), replace=False):
                    loop[place] = 99
                made.append(tokens + loop)
    return made


def test_the_quick_look_changes_no_verdict() -> None:
    verdicts = []
    for tokens in endings():
        slow = is_looping(tokens, min_length=LOOP_TOKENS, min_repeats=LOOP_REPEATS, max_tail=LOOP_TAIL)
        assert is_endless(tokens) == slow
        verdicts.append(slow)
    assert 40 < sum(verdicts) < len(verdicts) - 40


@given(st.lists(st.integers(0, 2), max_size=500))
def test_short_and_monotonous_answers_too(tokens: list[int]) -> None:
    slow = is_looping(tokens, min_length=LOOP_TOKENS, min_repeats=LOOP_REPEATS, max_tail=LOOP_TAIL)
    assert is_endless(tokens) == slow


@pytest.mark.parametrize("length", [LOOP_TOKENS - 1, LOOP_TOKENS, LOOP_TOKENS + 7, LOOP_TAIL, LOOP_TAIL + 5])
def test_one_token_for_ever_is_endless_from_so_many_on(length: int) -> None:
    assert is_endless([7] * length) == (length >= LOOP_TOKENS)
