"""Decoding on a GPU: Triton kernels give what their plain twins give, graphs what `generate` gives."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine, batching
from ocrsmith.engines.native.stepping import Stepper
from ocrsmith.model import kernels
from ocrsmith.model.decode_attention import attend_slots_plain, attend_slots_triton
from ocrsmith.model.decode_experts import (
    ExpertWeights,
    RouterWeights,
    apply_chosen,
    apply_grouped,
    route,
    route_triton,
)
from ocrsmith.model.decode_ops import add_norm, add_norm_triton, rotate_and_store, rotate_and_store_triton
from ocrsmith.model.decode_step import StepModel
from ocrsmith.model.lora import add_lora
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.settings import LoraSettings

from ..engines.test_batching import check
from ..engines.test_native import processor as processor
from ..engines.test_native import random_model, read, requests
from ..engines.test_native import tokenizer as tokenizer

pytestmark = pytest.mark.gpu

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
LOOPS = DecodingSettings(max_new_tokens=40, ngram_size=3, ngram_window=12, ngram_whitelist=("<td>",))


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """float32 without TF32, and with one routing: what is compared may differ by rounding only."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def random(*shape: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, device="cuda") * scale).to(dtype)


def close(actual: Tensor, expected: Tensor) -> None:
    """Equal but for rounding, by the largest expected value."""
    limit = 1e-5 if actual.dtype == torch.float32 else 2e-2
    assert actual.dtype == expected.dtype
    difference = (actual.float() - expected.float()).abs().max().item()
    assert difference <= limit * expected.float().abs().max().item()


@DTYPES
@pytest.mark.parametrize(("batch", "heads", "d"), [(1, 10, 128), (7, 4, 64), (33, 10, 128), (3, 2, 24)])
def test_attention_over_slots(dtype: torch.dtype, batch: int, heads: int, d: int) -> None:
    q = random(batch, heads, d, dtype=dtype)
    keys, values = (random(batch + 1, heads, 700, d, dtype=dtype) for _ in range(2))
    positions = torch.randint(0, 700, (batch,), device="cuda")
    positions[0] = 699
    expected = attend_slots_plain(q.float(), keys.float(), values.float(), positions)
    close(attend_slots_triton(q, keys, values, positions), expected.to(dtype))


@DTYPES
@pytest.mark.parametrize("d", [24, 64, 128])
def test_rotation_and_storing(dtype: torch.dtype, d: int) -> None:
    qkv = random(5, 3, 2, d, dtype=dtype)
    angles = torch.randn(50, d // 2, device="cuda")
    cos, sin = (torch.cat([part, part], -1).to(dtype) for part in (angles.cos(), angles.sin()))
    positions = torch.tensor([0, 49, 7, 3, 3], device="cuda")
    caches = [torch.zeros(2, 6, 2, 50, d, device="cuda", dtype=dtype) for _ in range(2)]
    with kernels.using(triton=False):
        expected = rotate_and_store(qkv, cos, sin, positions, *caches[0])
    close(rotate_and_store_triton(qkv, cos, sin, positions, *caches[1]), expected)
    close(caches[1], caches[0])


@DTYPES
@pytest.mark.parametrize("size", [40, 1280])
def test_residual_and_norm(dtype: torch.dtype, size: int) -> None:
    x, delta, weight = (random(*shape, dtype=dtype) for shape in ((9, size), (9, size), (size,)))
    for more in (None, delta):
        with kernels.using(triton=False):
            expected = add_norm(x, more, weight, 1e-6)
        for ours, theirs in zip(add_norm_triton(x, more, weight, 1e-6), expected, strict=True):
            close(ours, theirs)


@DTYPES
@pytest.mark.parametrize(("experts", "chosen", "normalise", "factor"), [(64, 6, False, 1.0), (5, 2, True, 2.5)])
def test_router(dtype: torch.dtype, experts: int, chosen: int, normalise: bool, factor: float) -> None:
    router = RouterWeights(random(experts, 160, dtype=dtype), chosen, normalise, factor)
    x = random(11, 160, dtype=dtype)
    with kernels.using(triton=False):
        indices, shares = route(x, router)
    found, weights = route_triton(x, router)
    assert torch.equal(found.long(), indices)
    torch.testing.assert_close(weights, shares, rtol=1e-4, atol=1e-5)


@DTYPES
@pytest.mark.parametrize(
    ("hidden", "width", "experts", "chosen", "parts"), [(1280, 896, 64, 6, 2), (40, 24, 5, 2, 1)]
)
def test_chosen_experts(
    dtype: torch.dtype, hidden: int, width: int, experts: int, chosen: int, parts: int
) -> None:
    weights = ExpertWeights(
        random(experts, width, hidden, dtype=dtype, scale=hidden**-0.5),
        random(experts, width, hidden, dtype=dtype, scale=hidden**-0.5),
        random(experts, hidden, width, dtype=dtype, scale=width**-0.5),
        {},
    )
    shared_in = random(2 * parts * width, hidden, dtype=dtype, scale=hidden**-0.5)
    shared_out = random(hidden, parts * width, dtype=dtype, scale=width**-0.5)
    x = random(7, hidden, dtype=dtype)
    shares, indices = torch.rand(7, experts, device="cuda").topk(chosen)
    with kernels.using(experts="loop"):
        expected = apply_grouped(x, indices, shares, weights)
    gate, up = F.linear(x, shared_in).chunk(2, -1)
    expected = expected + F.linear(F.silu(gate) * up, shared_out)
    close(apply_chosen(x, indices.int(), shares, weights, shared_in, shared_out), expected)


def on_gpu(model: Any) -> Any:
    return copy.deepcopy(model).cuda()


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_graphs_give_the_tokens_of_generate(processor: OcrProcessor, slots: int) -> None:
    model = random_model()
    engine = NativeEngine(on_gpu(model), processor, decoding=LOOPS, batch_size=slots)
    for _ in range(2):  # the second time with the graphs of the first
        answers = check(engine, model, requests(11), LOOPS)
    assert engine._kept is not None
    assert engine._kept.stepper is not None
    assert engine._kept.stepper.graphs, "captured, not fallen back"
    assert len({answer.tokens for answer in answers.values()}) >= 1


def test_slots_grow_and_graphs_are_captured_anew(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "FIRST_TOKENS", 4)
    monkeypatch.setattr(batching, "ROUND", 8)
    lengths: list[int] = []
    lengthen = Stepper.lengthen

    def watched(self: Stepper, length: int) -> None:
        lengthen(self, length)
        lengths.append(self.cache.length)

    monkeypatch.setattr(Stepper, "lengthen", watched)
    model = random_model()
    decoding = DecodingSettings(max_new_tokens=150, ngram_size=4, ngram_window=30, ngram_whitelist=())
    check(NativeEngine(on_gpu(model), processor, decoding=decoding, batch_size=2), model, requests(5), decoding)
    assert len(lengths) > 1


@pytest.mark.parametrize("fold", [True, False])
def test_an_adapter_on_the_model_counts_and_may_change(processor: OcrProcessor, fold: bool) -> None:
    tuned = add_lora(random_model(), LoraSettings(r=4, alpha=8)).eval()
    there = on_gpu(tuned)
    engine = NativeEngine(there, processor, decoding=LOOPS, batch_size=4, fold_adapter=fold)
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            for (name, parameter), other in zip(tuned.named_parameters(), there.parameters(), strict=True):
                if "lora_" in name:
                    parameter.normal_(0, 0.5)
                    other.copy_(parameter)
        check(engine, tuned, requests(6), LOOPS)


@pytest.mark.parametrize("changes", [{"triton": False}, {"experts": "loop"}, {"attention": "plain"}], ids=str)
def test_every_path_gives_the_same_tokens(processor: OcrProcessor, changes: dict[str, Any]) -> None:
    model = random_model()
    with kernels.using(**changes):
        engine = NativeEngine(on_gpu(model), processor, decoding=LOOPS, batch_size=4)
        check(engine, model, requests(6), LOOPS)


def test_half_precision_steps_follow_the_forward_pass(processor: OcrProcessor) -> None:
    """In bfloat16 on a GPU the logits of a step are those of the whole sequence, but for rounding."""
    from ..model.test_static_cache import LENGTHS, STEPS, sequences
    from ..parity.tiny import tiny_model

    model = tiny_model().cuda().bfloat16()
    given = [one.cuda() for one in sequences()]
    with torch.inference_mode():
        whole = [model(input_ids=one[None], use_cache=False).logits[0, -STEPS:].float() for one in given]
        step = StepModel(model)
        cache = batching.KeyValueSlots(model.config.decoder_sizes, 3, 32, torch.device("cuda"), torch.bfloat16)
        for place in range(max(LENGTHS) + STEPS):  # prompts too are fed a token at a time
            tokens = torch.stack([one[min(place, len(one) - 1)] for one in given])
            positions = torch.full((3,), place, device="cuda")
            logits = step(tokens, positions, cache, 32).float()
            for row, length in enumerate(LENGTHS):
                if length <= place < length + STEPS:
                    expected = whole[row][place - length]
                    assert F.cosine_similarity(logits[row], expected, dim=0) > 0.99


def test_answers_are_the_same_in_any_company(processor: OcrProcessor) -> None:
    model = on_gpu(random_model())
    alone = read(NativeEngine(model, processor, decoding=LOOPS, batch_size=1), requests(9))
    together = read(NativeEngine(model, processor, decoding=LOOPS, batch_size=8), requests(9))
    assert {name: answer.text for name, answer in alone.items()} == {
        name: answer.text for name, answer in together.items()
    }
