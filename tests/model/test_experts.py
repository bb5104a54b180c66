"""Grouped experts against the definition: a loop over tokens and their experts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ocrsmith.model import kernels
from ocrsmith.model.config import DecoderSizes
from ocrsmith.model.experts import (
    ExpertsAdapter,
    GroupedExperts,
    Router,
    apply_by_autograd,
    apply_frozen,
    balance_loss,
)
from ocrsmith.model.kernels import Groups, grouped_linear, grouped_outer


def sizes(**changes: object) -> DecoderSizes:
    values = {"hidden_size": 16, "moe_intermediate_size": 24, "n_routed_experts": 6, "num_experts_per_tok": 2}
    return DecoderSizes(**{**values, **changes})  # type: ignore[arg-type]


def randomised(experts: GroupedExperts, seed: int = 0) -> GroupedExperts:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5)
    return experts


def both_ways(
    x: Tensor, weight: Tensor, counts: list[int], cotangent: Tensor
) -> list[tuple[Tensor, Tensor | None, Tensor | None]]:
    """(output, gradient of x, gradient of weight) of `grouped_linear`: in one GEMM, and in a loop."""
    ends = torch.tensor(counts).cumsum(0).to(torch.int32)
    results = []
    for way in ("auto", "loop"):
        leaf, matrix = x.clone().requires_grad_(), weight.clone().requires_grad_()
        with kernels.using(experts=way):
            out = grouped_linear(leaf, matrix, Groups(ends))
        out.backward(cotangent)
        results.append((out.detach(), leaf.grad, matrix.grad))
    return results


@pytest.mark.parametrize("counts", [[3, 4, 5], [0, 12, 0], [0, 0, 7], [7, 0, 0], [1, 1, 1]])
@pytest.mark.parametrize("shape", [(8, 16), (16, 8), (5, 7), (1, 3), (12, 4)], ids=str)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-6), (torch.float64, 1e-14), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)],
    ids=str,
)
def test_grouped_linear_is_the_plain_loop(
    counts: list[int], shape: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    wide, rows = torch.float64, sum(counts)
    x = torch.randn(rows, shape[0], generator=generator, dtype=wide).to(dtype)
    weight = torch.randn(3, shape[1], shape[0], generator=generator, dtype=wide).to(dtype)
    cotangent = torch.randn(rows, shape[1], generator=generator, dtype=wide).to(dtype)
    for fast, plain in zip(*both_ways(x, weight, counts, cotangent), strict=True):
        torch.testing.assert_close(fast, plain, atol=tolerance * 4, rtol=tolerance)


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_grouped_linear_for_any_load(counts: list[int]) -> None:
    rows = sum(counts)
    x = torch.linspace(-1, 1, rows * 4).view(rows, 4)
    weight = torch.linspace(-2, 2, len(counts) * 12).view(len(counts), 3, 4)
    for fast, plain in zip(*both_ways(x, weight, counts, torch.ones(rows, 3)), strict=True):
        torch.testing.assert_close(fast, plain)


def test_experts_nobody_chose_get_a_gradient_of_zero() -> None:
    x, weight = torch.randn(4, 8), torch.randn(3, 8, 8)
    (_, _, gradient), _ = both_ways(x, weight, [0, 4, 0], torch.ones(4, 8))
    assert gradient is not None
    assert not gradient[0].any()
    assert not gradient[2].any()
    assert gradient[1].any()


def test_without_grouped_gemm_the_plain_loop_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = randomised(GroupedExperts(sizes()))
    x, indices = torch.randn(9, 16), torch.randint(0, 6, (9, 2))
    weights = torch.rand(9, 2)
    with torch.no_grad():
        fast = experts(x, indices, weights)
        monkeypatch.delattr(torch.nn.functional, "grouped_mm", raising=False)
        torch.testing.assert_close(experts(x, indices, weights), fast)


def test_autocast_is_honoured_as_by_linear_layers() -> None:
    x, weight = torch.randn(4, 8), torch.randn(2, 8, 8)
    groups = Groups(torch.tensor([1, 4], dtype=torch.int32))
    with torch.autocast("cpu", torch.bfloat16):
        assert grouped_linear(x, weight, groups).dtype == torch.bfloat16
        assert grouped_linear(x.bfloat16(), weight, groups).dtype == torch.bfloat16


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=9), way=st.sampled_from(["auto", "loop"]))
def test_grouped_outer_for_any_load(counts: list[int], way: str) -> None:
    rows = sum(counts)
    a, b = torch.randn(rows, 3), torch.randn(rows, 5)
    with kernels.using(experts=way):
        out = grouped_outer(a, b, Groups(torch.tensor(counts).cumsum(0).to(torch.int32)))
    expert = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    for number in range(len(counts)):
        mine = expert == number
        torch.testing.assert_close(out[number], a[mine].t() @ b[mine])


# --- experts -----------------------------------------------------------------------------------------------


def by_definition(experts: GroupedExperts, x: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Token by token, expert by expert (DeepSeekMoE, eq. 3)."""
    rows = []
    for token, chosen, shares in zip(x, indices.tolist(), weights, strict=True):
        total = torch.zeros_like(token)
        for expert, share in zip(chosen, shares, strict=True):
            gate = torch.nn.functional.silu(experts.gate_proj[expert] @ token)
            total = total + share * (experts.down_proj[expert] @ (gate * (experts.up_proj[expert] @ token)))
        rows.append(total)
    return torch.stack(rows)


@pytest.mark.parametrize("tokens", [1, 2, 17])
def test_experts_are_the_weighted_sum_of_the_chosen(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    experts = randomised(GroupedExperts(sizes()))
    x = torch.randn(tokens, 16, generator=generator)
    indices = torch.stack([torch.randperm(6, generator=generator)[:2] for _ in range(tokens)])
    weights = torch.rand(tokens, 2, generator=generator)
    results = []
    for function in (experts, lambda *inputs: by_definition(experts, *inputs)):
        leaf, shares = x.clone().requires_grad_(), weights.clone().requires_grad_()
        experts.zero_grad()
        out = function(leaf, indices, shares)
        out.square().sum().backward()
        found = {name: p.grad.clone() for name, p in experts.named_parameters() if p.grad is not None}
        results.append((out, leaf.grad, shares.grad, found))
    torch.testing.assert_close(*results)


def test_experts_in_bfloat16_stay_close_to_float32() -> None:
    generator = torch.Generator().manual_seed(3)
    experts = randomised(GroupedExperts(sizes()))
    x = torch.randn(50, 16, generator=generator)
    indices = torch.stack([torch.randperm(6, generator=generator)[:2] for _ in range(50)])
    weights = torch.rand(50, 2, generator=generator)
    with torch.no_grad():
        expected = experts(x, indices, weights)
        actual = experts.bfloat16()(x.bfloat16(), indices, weights)
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).square().mean().sqrt() < 0.01 * expected.square().mean().sqrt()


# --- router ------------------------------------------------------------------------------------------------


def test_router_weights_by_hand() -> None:
    router = Router(sizes(hidden_size=2, n_routed_experts=3))
    with torch.no_grad():
        router.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]).log1p())
    # The token (1, 1) has logits (0, ln 2, ln 3), hence scores 1/6, 2/6 and 3/6.
    scores, indices, weights = router(torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(scores, torch.tensor([[1 / 6, 2 / 6, 3 / 6]]))
    assert indices.tolist() == [[2, 1]]
    torch.testing.assert_close(weights, torch.tensor([[1 / 2, 1 / 3]]))


def test_router_can_renormalise_and_scale() -> None:
    plain, other = Router(sizes()), Router(sizes(norm_topk_prob=True, routed_scaling_factor=2.5))
    weight = torch.randn(plain.weight.shape, generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    for router in (plain, other):
        router.weight.data.copy_(weight)
    _, _, unscaled = plain(x)
    _, _, weights = other(x)
    torch.testing.assert_close(weights, 2.5 * unscaled / unscaled.sum(-1, keepdim=True))


def test_router_decides_in_float32_whatever_the_dtype() -> None:
    router = Router(sizes()).bfloat16()
    router.weight.data.normal_(generator=torch.Generator().manual_seed(2))
    x = torch.randn(20, 16, generator=torch.Generator().manual_seed(3)).bfloat16()
    expected = (x.float() @ router.weight.float().t()).softmax(-1)
    torch.testing.assert_close(router(x)[0], expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(router(x)[0], expected)


# --- load balance ------------------------------------------------------------------------------------------


def test_balance_loss_is_one_for_an_even_router() -> None:
    indices = torch.tensor([[0, 1], [2, 3]])
    assert balance_loss(torch.full((2, 4), 0.25), indices, batch=1).item() == pytest.approx(1.0)


def test_balance_loss_by_hand() -> None:
    # Two sequences of two tokens, two experts, one choice a token; E / (k T) = 2 / 2 = 1.
    scores = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    indices = scores.argmax(-1, keepdim=True)
    # First: both choose expert 0, f = (2, 0), P = (0.8, 0.2): 1.6. Second: f = (1, 1), P sums to 1: 1.
    assert balance_loss(scores, indices, batch=2).item() == pytest.approx((1.6 + 1.0) / 2)


# --- the backward pass of our own -------------------------------------------------------------------------


def an_adapter(layer: DecoderSizes, rank: int, seed: int = 5) -> ExpertsAdapter:
    generator = torch.Generator().manual_seed(seed)
    experts, hidden, inner = layer.n_routed_experts, layer.hidden_size, layer.moe_intermediate_size
    shapes = [(rank, hidden), (inner, rank)] * 2 + [(rank, inner), (hidden, rank)]
    matrices = [torch.randn(experts, *shape, generator=generator) * 0.3 for shape in shapes]
    return ExpertsAdapter(0.7, *(matrix.requires_grad_() for matrix in matrices))


class Projecting:
    """The experts with an adapter, for autograd to follow: the delta written out."""

    def __init__(self, base: GroupedExperts, adapter: ExpertsAdapter) -> None:
        self.base, self.adapter = base, adapter

    def project(self, name: str, x: Tensor, groups: Groups) -> Tensor:
        first = 1 + 2 * ["gate_proj", "up_proj", "down_proj"].index(name)
        a, b = self.adapter[first], self.adapter[first + 1]
        return grouped_linear(x, getattr(self.base, name) + self.adapter.scale * b @ a, groups)


def results(out: Tensor, cotangent: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


@pytest.mark.parametrize("way", ["auto", "loop"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("rank", [1, 8, 5])
@pytest.mark.parametrize("tokens", [1, 23])
def test_frozen_experts_with_an_adapter_have_autograds_gradients(
    way: str, recompute: bool, rank: int, tokens: int
) -> None:
    layer = sizes()
    base = randomised(GroupedExperts(layer)).requires_grad_(False)
    adapter = an_adapter(layer, rank)
    x = torch.randn(tokens, 16, requires_grad=True)
    indices = torch.rand(tokens, 6).topk(2).indices
    weights = torch.rand(tokens, 2, requires_grad=True)
    cotangent = torch.randn(tokens, 16)
    leaves = [x, weights, *adapter[1:]]
    plain = results(apply_by_autograd(base, Projecting(base, adapter), x, indices, weights), cotangent, leaves)
    base.recompute = recompute
    with kernels.using(experts=way):
        ours = results(apply_frozen(base, x, indices, weights, adapter), cotangent, leaves)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_frozen_experts_without_an_adapter_have_autograds_gradients(recompute: bool) -> None:
    base = randomised(GroupedExperts(sizes())).requires_grad_(False)
    x, weights = torch.randn(9, 16, requires_grad=True), torch.rand(9, 2, requires_grad=True)
    indices, cotangent = torch.rand(9, 6).topk(2).indices, torch.randn(9, 16)
    plain = results(apply_by_autograd(base, base, x, indices, weights), cotangent, [x, weights])
    base.recompute = recompute
    for mine, theirs in zip(results(base(x, indices, weights), cotangent, [x, weights]), plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_what_the_backward_pass_keeps_is_small() -> None:
    """Not the rows of every expert: the tokens, gate and up, and thin activations."""
    layer = sizes()
    base, adapter = randomised(GroupedExperts(layer)).requires_grad_(False), an_adapter(layer, 4)
    x, weights = torch.randn(64, 16, requires_grad=True), torch.rand(64, 2, requires_grad=True)
    indices = torch.rand(64, 6).topk(2).indices
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        apply_frozen(base, x, indices, weights, adapter)
        whole = sum(tensor.numel() for tensor in kept)
        kept.clear()
        base.recompute = True
        apply_frozen(base, x, indices, weights, adapter)
    fixed = x.numel() + weights.numel() + sum(matrix.numel() for matrix in adapter[1:])
    assert sum(tensor.numel() for tensor in kept) == fixed
    assert whole == fixed + 128 * (2 * 24 + 3 * 4)  # M = 128 rows: gate and up, and 3 r of the adapter
