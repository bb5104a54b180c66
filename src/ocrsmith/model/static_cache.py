"""Keys and values of many sequences in buffers that never move, a slot for each.

Letters: S slots, L places of a slot, B ≤ S sequences, T tokens, h heads, d channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ocrsmith.model.attention import PackedAttention
from ocrsmith.model.config import DecoderSizes
from ocrsmith.model.decode_attention import attend_slots


class KeyValueSlots:
    """Keys and values of up to S sequences of up to L tokens, for all layers.

    Behind what a slot holds there are zeros: masked places count nothing, but nothing times an infinity of an
    earlier sequence would be no number.
    """

    def __init__(
        self, sizes: DecoderSizes, slots: int, length: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.sizes = sizes
        shape = (sizes.num_hidden_layers, slots, sizes.num_attention_heads, length, sizes.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        """(layers, S, h, L, d)"""
        self.values = torch.zeros(shape, device=device, dtype=dtype)

    @property
    def slots(self) -> int:
        """S."""
        return self.keys.shape[1]

    @property
    def length(self) -> int:
        """L."""
        return self.keys.shape[3]

    def store(self, slot: int, prompt: KeptPrompt, start: int, end: int) -> None:
        """Puts tokens start … end of a packed prompt at the beginning of a slot."""
        for layer, (keys, values) in enumerate(zip(prompt.keys, prompt.values, strict=True)):
            self.keys[layer, slot, :, : end - start].copy_(keys[start:end].transpose(0, 1))
            self.values[layer, slot, :, : end - start].copy_(values[start:end].transpose(0, 1))
        self._clear(slot, end - start)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies the first places of one slot to another."""
        for buffer in (self.keys, self.values):
            buffer[:, target, :, :length].copy_(buffer[:, source, :, :length])
        self._clear(target, length)

    def _clear(self, slot: int, start: int) -> None:
        for buffer in (self.keys, self.values):
            buffer[:, slot, :, start:].zero_()

    def resize(self, slots: int, length: int) -> None:
        """Makes buffers of another size and keeps what fits; one buffer at a time, for less memory at once.

        Raises:
            torch.OutOfMemoryError: there is no room; nothing may be read from the slots then.
        """
        kept, places = min(slots, self.slots), min(length, self.length)
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(old.shape[0], slots, old.shape[2], length, old.shape[4])
            new[:, :kept, :, :places].copy_(old[:, :kept, :, :places])
            setattr(self, name, new)
            del old


def bytes_per_token(sizes: DecoderSizes, dtype: torch.dtype) -> int:
    """Keys and values of one token, all layers."""
    return 2 * sizes.num_hidden_layers * sizes.hidden_size * dtype.itemsize


class KeptPrompt:
    """Packed attention that keeps the keys and values of the prompts; one `Attend` for one pass."""

    def __init__(self, packed: PackedAttention) -> None:
        self.packed = packed
        self.keys: list[Tensor] = []
        """(T, h, d) for each layer, all prompts end to end."""
        self.values: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Attend`; layers come in order."""
        if layer != len(self.keys):
            raise ValueError(f"layer {layer} came when {len(self.keys)} was due")
        self.keys.append(k[0])
        self.values.append(v[0])
        return self.packed(layer, q, k, v)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Tells the allocator that another stream reads the tensors."""
        for tensor in (*self.keys, *self.values):
            tensor.record_stream(stream)


class SlotAttention:
    """`Attend` for one new token a sequence: stores its keys and values, and looks at all of the slot's."""

    def __init__(self, cache: KeyValueSlots, positions: Tensor, mask: Tensor | None = None) -> None:
        """
        Args:
            cache: sequence b lies in slot b.
            positions: (B,) of the new tokens.
            mask: see `attend_slots`.
        """
        self.cache = cache
        self.positions = positions
        self.mask = mask

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, 1, h, d) each → (B, 1, h, d)."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        rows = torch.arange(q.shape[0], device=q.device)
        keys[rows, :, self.positions] = k[:, 0]
        values[rows, :, self.positions] = v[:, 0]
        return attend_slots(q[:, 0], keys, values, self.positions, self.mask)[:, None]
