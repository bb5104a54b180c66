"""The DeepEncoder's parts against their definitions, written out plainly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ocrsmith.model.config import SamSizes
from ocrsmith.model.vision import (
    ChannelNorm,
    SamAttention,
    join_windows,
    normalise,
    relative_table,
    resize_positions,
    split_windows,
)

from ..parity.tiny import random_views, tiny_model


def attention(span: int, width: int = 12, heads: int = 2) -> SamAttention:
    module = SamAttention(SamSizes(width=width, heads=heads), span)
    generator = torch.Generator().manual_seed(span)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return module


def attention_by_definition(module: SamAttention, x: Tensor) -> Tensor:
    """Scores with the relative biases added one pair of positions at a time (MViTv2, eq. 4)."""
    batch, height, width, channels = x.shape
    head = channels // module.heads
    q, k, v = module.qkv(x).view(batch, height * width, 3, module.heads, head).unbind(2)
    places = [(row, column) for row in range(height) for column in range(width)]
    out = torch.zeros(batch, height * width, module.heads, head)
    for b in range(batch):
        for h in range(module.heads):
            scores = q[b, :, h] @ k[b, :, h].t() / head**0.5
            for i, (row, column) in enumerate(places):
                for j, (other_row, other_column) in enumerate(places):
                    scores[i, j] += q[b, i, h] @ module.rel_pos_h[row - other_row + height - 1]
                    scores[i, j] += q[b, i, h] @ module.rel_pos_w[column - other_column + width - 1]
            out[b, :, h] = scores.softmax(-1) @ v[b, :, h]
    return module.proj(out.flatten(2)).view(x.shape)


@pytest.mark.parametrize("span", [1, 2, 4])
def test_sam_attention_is_attention_with_relative_biases(span: int) -> None:
    module = attention(span)
    x = torch.randn(2, span, span, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(module(x), attention_by_definition(module, x), atol=1e-5, rtol=1e-5)


def test_channel_norm_normalises_each_position() -> None:
    norm = ChannelNorm(5)
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    norm.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    norm.bias.data.normal_(generator=torch.Generator().manual_seed(2))
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (variance + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)


@given(height=st.integers(1, 17), width=st.integers(1, 17), window=st.integers(1, 8), batch=st.integers(1, 3))
def test_windows_join_to_the_map_they_were_split_from(height: int, width: int, window: int, batch: int) -> None:
    x = torch.arange(batch * height * width * 2.0).view(batch, height, width, 2)
    windows = split_windows(x, window)
    assert windows.shape == (batch * -(-height // window) * -(-width // window), window, window, 2)
    assert torch.equal(windows[0, 0, 0], x[0, 0, 0])
    assert torch.equal(join_windows(windows, window, batch, height, width), x)
    assert windows.sum() == x.sum()  # the filling is zeros


def test_relative_table_is_indexed_by_query_minus_key() -> None:
    table = torch.arange(5.0)[:, None]  # distances -2 … 2
    assert relative_table(table, 3)[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_relative_table_of_another_size_is_interpolated() -> None:
    table = torch.arange(5.0)[:, None]
    wide = relative_table(table, 5)[..., 0]
    assert wide.shape == (5, 5)
    assert wide[0, 0].item() == pytest.approx(2.0)  # distance 0 stays in the middle
    assert (wide.diff(dim=0) >= 0).all()


def test_positions_of_the_stored_size_are_taken_as_they_are() -> None:
    table = torch.randn(1, 4, 4, 3)
    assert resize_positions(table, 4, 4) is table


def test_positions_are_resized_in_float32() -> None:
    table = torch.randn(1, 4, 4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    resized = resize_positions(table, 7, 5)
    assert resized.shape == (1, 7, 5, 3)
    assert torch.equal(resized, resize_positions(table.float(), 7, 5).bfloat16())


def test_normalise_maps_bytes_to_minus_one_and_one() -> None:
    views = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    torch.testing.assert_close(normalise(views), torch.tensor([-1.0, 1.0, -0.6]).view(1, 3, 1, 1))


# --- the encoder as a whole --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 128, 192, 320])
def test_a_view_gives_one_token_for_every_64_pixels_squared(size: int) -> None:
    with torch.no_grad():
        assert tiny_model().model(random_views([(size, 0, 0, 0)])[size]).shape == (1, (size // 64) ** 2, 32)


def test_views_do_not_see_one_another() -> None:
    model = tiny_model()
    views = random_views([(128, 0, 0, 0)] * 3)[128]
    with torch.no_grad():
        together = model.model(views)
        alone = torch.cat([model.model(view[None]) for view in views])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_black_image_is_read_like_any_other() -> None:
    """The published code skips the encoder where the pixels sum to zero; mid-grey comes out as zeros."""
    model = tiny_model()
    black, white = torch.zeros(1, 128, 128, 3, dtype=torch.uint8), torch.full((1, 128, 128, 3), 255).byte()
    with torch.no_grad():
        zeros = model.model(torch.zeros(1, 3, 128, 128))
        tokens = [model.model(black), model.model(white), zeros]
    assert all(values.abs().sum() > 1 for values in tokens)
    assert not torch.allclose(tokens[0], tokens[1])


def test_every_used_parameter_of_the_encoder_learns() -> None:
    model = tiny_model().train()
    model.model(random_views([(192, 0, 0, 0)])[192]).square().sum().backward()
    encoder = {
        name: parameter
        for part in (model.model.sam_model, model.model.vision_model, model.model.projector)
        for name, parameter in part.named_parameters()
    }
    without = {name for name, parameter in encoder.items() if parameter.grad is None}
    assert without == {"embeddings.patch_embedding.weight"}  # in the checkpoint, never used
    assert not [name for name, p in encoder.items() if p.grad is not None and not p.grad.any()]


def test_bfloat16_is_close_to_float32() -> None:
    views = random_views([(128, 0, 0, 0)])[128]
    model = tiny_model()
    with torch.no_grad():
        expected = model.model(views)
        actual = model.bfloat16().model(views)
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).square().mean().sqrt() < 0.05 * expected.square().mean().sqrt()
