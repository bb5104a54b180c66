"""How the decoder's queries meet its keys: padded batches with a cache, or many samples packed into one row.

Letters: B sequences, T new tokens, K keys (past and new), h heads, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache

from ocrsmith.model.kernels import capability, choice, split_rows


class Attend(Protocol):
    """Attention of one layer, the rotation of queries and keys done."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, T, h, d) queries, keys and values of the new tokens → (B, T, h, d)."""


class CausalAttention:
    """Causal attention over sequences that may be padded, and over what a cache holds of them."""

    def __init__(self, mask: Tensor | None, cache: Cache | None = None) -> None:
        """`mask`: see `attention_mask_4d`."""
        self.mask = mask
        self.cache = cache

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, h, T, d)
        if self.cache is not None:
            k, v = self.cache.update(k, v, layer)  # (B, h, K, d)
        # No mask: either a whole plain sequence, or one new token that may see all there is.
        causal = self.mask is None and q.shape[2] > 1
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, is_causal=causal)
        return out.transpose(1, 2)


class PackedAttention:
    """Causal attention over samples laid end to end in one row (B = 1); none sees another."""

    def __init__(
        self,
        lengths: Sequence[int],
        device: torch.device,
        *,
        starts: Tensor | None = None,
        longest: int | None = None,
    ) -> None:
        """
        Args:
            lengths: tokens of each sample; they sum up to T.
            device: where the row is.
            starts: (samples + 1,) int32, where they begin and the last one ends; then `lengths` may be empty.
            longest: no sample has more tokens.
        """
        self.lengths = list(lengths)
        self.longest = longest or max(self.lengths)
        if starts is None:
            starts = torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32)
        self.starts = starts.to(device, non_blocking=True)

    def positions(self, length: int | None = None) -> Tensor:
        """(1, T) each token's place in its own sample; `length` is T, if `lengths` do not tell."""
        count = torch.arange(length or sum(self.lengths), device=self.starts.device)
        sample = torch.searchsorted(self.starts[1:], count, right=True)
        return (count - self.starts[sample])[None]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not runs_flash(q):
            lengths = self.lengths or [length for length in self.starts.diff().tolist() if length]
            parts = zip(*(split_rows(x, lengths) for x in (q, k, v)), strict=True)
            plain = CausalAttention(None)
            return torch.cat([plain(layer, *part) for part in parts], dim=1)
        q, k, v = (x[0] for x in (q, k, v))  # (T, h, d)
        if (varlen := _flash_attn()) is not None:
            out = varlen(q, k, v, self.starts, self.starts, self.longest, self.longest, causal=True)
        else:
            flash: Any = torch.ops.aten._flash_attention_forward
            out = flash(q, k, v, self.starts, self.starts, self.longest, self.longest, 0.0, True, False)[0]
        return out[None]


def runs_flash(q: Tensor) -> bool:
    """Whether packed samples can go through one flash-attention kernel."""
    if choice.attention == "plain" or not q.is_cuda:
        return False
    return q.dtype in (torch.bfloat16, torch.float16) and capability(q.device)[0] >= 8


@cache
def _flash_attn() -> Any:
    """The flash-attn package's function, if it is installed."""
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:
        return None
    return flash_attn_varlen_func


def attention_mask_4d(
    attention_mask: Tensor | None, length: int, past: int, device: torch.device
) -> Tensor | None:
    """Which keys each new token may see: bool (B, 1, T, K), or None where plain causal attention is meant.

    Args:
        attention_mask: (B, past + T), 1 for tokens and 0 for padding on either side; None without padding.
        length: T, the number of new tokens.
        past: the number of tokens already in the cache.
        device: where the mask is wanted.
    """
    if attention_mask is None:
        if past == 0 or length == 1:
            return None
        keys = torch.arange(past + length, device=device)
        return (keys[None, :] <= keys[past:, None])[None, None]
    total = past + length
    keys = torch.arange(total, device=device)
    causal = keys[None, :] <= keys[past:, None]  # (T, K)
    itself = keys[None, :] == keys[past:, None]  # a padding row sees itself: no softmax over nothing
    visible = attention_mask[:, None, None, :total].to(device).bool()
    return (causal & visible) | itself
