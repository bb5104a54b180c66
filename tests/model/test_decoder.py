"""The decoder's parts against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.model.attention import CausalAttention, PackedAttention, attention_mask_4d
from ocrsmith.model.config import DecoderSizes
from ocrsmith.model.decoder import Attention, Mlp, RMSNorm, rotary_tables, rotate

CPU = torch.device("cpu")


def test_rms_norm_by_hand() -> None:
    norm = RMSNorm(2, eps=0.0)
    norm.weight.data = torch.tensor([1.0, 10.0])
    # The mean square of (3, 4) is 12.5.
    expected = [3 / math.sqrt(12.5), 40 / math.sqrt(12.5)]
    assert norm(torch.tensor([[3.0, 4.0]]))[0].tolist() == pytest.approx(expected)


def test_rms_norm_computes_in_float32() -> None:
    x = torch.full((1, 4), 300.0, dtype=torch.float16)  # its square overflows float16
    assert RMSNorm(4, 1e-6).half()(x).tolist() == [[1.0] * 4]


def test_mlp_is_swiglu() -> None:
    mlp = Mlp(3, 5)
    x = torch.randn(2, 3)
    gate, up = x @ mlp.gate_proj.weight.t(), x @ mlp.up_proj.weight.t()
    torch.testing.assert_close(mlp(x), (gate * gate.sigmoid() * up) @ mlp.down_proj.weight.t())


# --- rotary positions --------------------------------------------------------------------------------------


def test_rotation_is_a_multiplication_of_complex_numbers() -> None:
    positions = torch.tensor([[0, 1, 5, 1000]])
    x = torch.randn(1, 4, 2, 8, generator=torch.Generator().manual_seed(0))
    actual = rotate(x, *rotary_tables(positions, 8, 10000.0, torch.float32))
    numbers = torch.complex(x[..., :4], x[..., 4:])
    angles = positions[0, :, None, None].double() * 10000.0 ** (-torch.arange(4).double() / 4)
    turned = numbers * torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
    torch.testing.assert_close(actual, torch.cat([turned.real, turned.imag], dim=-1), atol=1e-4, rtol=1e-4)


def test_rotation_keeps_inner_products_of_the_same_distance() -> None:
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(1))

    def product(query: int, key: int) -> float:
        place = [rotary_tables(torch.tensor([[at]]), 16, 10000.0, torch.float32) for at in (query, key)]
        return (rotate(q, *place[0]) * rotate(k, *place[1])).sum().item()

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
    assert product(7, 3) != pytest.approx(product(8, 3), abs=1e-4)


# --- masks -------------------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    side=st.sampled_from(["left", "right"]),
    past=st.integers(0, 5),
)
def test_a_token_sees_itself_and_the_tokens_before_it(lengths: list[int], side: str, past: int) -> None:
    total = max(lengths)
    past = min(past, total - 1)
    rows = [
        [0] * (total - length) + [1] * length if side == "left" else [1] * length + [0] * (total - length)
        for length in lengths
    ]
    mask = attention_mask_4d(torch.tensor(rows), total - past, past, CPU)
    assert mask is not None
    assert mask.shape == (len(rows), 1, total - past, total)
    for row, visible in enumerate(rows):
        for query in range(past, total):
            expected = [key == query or (key < query and visible[key] == 1) for key in range(total)]
            assert mask[row, 0, query - past].tolist() == expected


def test_without_padding_no_mask_is_made() -> None:
    assert attention_mask_4d(None, 7, 0, CPU) is None
    assert attention_mask_4d(None, 1, 7, CPU) is None


def test_several_new_tokens_after_a_cache_stay_causal() -> None:
    mask = attention_mask_4d(None, 2, 3, CPU)
    assert mask is not None
    assert mask[0, 0].int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_attention_by_definition() -> None:
    sizes = DecoderSizes(hidden_size=12, num_attention_heads=3)
    attention = Attention(sizes, layer=0)
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(4))
    rotary = rotary_tables(torch.arange(5)[None], 4, 10000.0, torch.float32)
    q, k, v = (proj(x).view(2, 5, 3, 4) for proj in (attention.q_proj, attention.k_proj, attention.v_proj))
    turned = [rotate(q, *rotary).transpose(1, 2), rotate(k, *rotary).transpose(1, 2)]
    scores = turned[0] @ turned[1].transpose(-1, -2) / 2  # √4
    scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    expected = attention.o_proj((scores.softmax(-1) @ v.transpose(1, 2)).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(attention(x, rotary, CausalAttention(None)), expected, atol=1e-5, rtol=1e-5)


def test_packed_samples_do_not_see_one_another() -> None:
    attention = Attention(DecoderSizes(hidden_size=12, num_attention_heads=3), layer=0)
    samples = [torch.randn(1, length, 12) for length in (5, 1, 3)]
    packed = PackedAttention([5, 1, 3], CPU)
    assert packed.positions().tolist() == [[0, 1, 2, 3, 4, 0, 0, 1, 2]]
    out = attention(torch.cat(samples, 1), rotary_tables(packed.positions(), 4, 100.0, torch.float32), packed)
    for sample, mine in zip(samples, out.split([5, 1, 3], dim=1), strict=True):
        places = rotary_tables(torch.arange(sample.shape[1])[None], 4, 100.0, torch.float32)
        torch.testing.assert_close(mine, attention(sample, places, CausalAttention(None)))
