"""Loop control on the device: what `decoding.NoRepeatNGramProcessor` forbids, without a word to the host.

Letters: B sequences, G columns of generated tokens, W window, n size of n-grams, V vocabulary, C = W - n + 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class DeviceLoopControl:
    """Sets scores of tokens that would complete an n-gram of the window to -inf."""

    def __init__(
        self, ngram_size: int, window_size: int, whitelist_token_ids: Iterable[int], device: torch.device
    ) -> None:
        """
        Args:
            ngram_size: n ≥ 1; 1 forbids nothing.
            window_size: latest generated tokens in which the earlier n-gram must lie as a whole.
            whitelist_token_ids: never forbidden.
            device: of the tensors to come.
        """
        self.prefix = ngram_size - 1
        self.window = window_size
        self.whitelist = torch.tensor(sorted(whitelist_token_ids), dtype=torch.long).to(device)

    def __call__(self, scores: Tensor, history: Tensor, counts: Tensor) -> Tensor:
        """
        Args:
            scores: (B, V) float; changed in place.
            history: (B, G) generated tokens.
            counts: (B,) how many of them there are.
        Returns:
            `scores`.
        """
        prefix, candidates = self.prefix, self.window - self.prefix  # C
        if not prefix or candidates < 1:
            return scores
        places = counts[:, None] - self.window + torch.arange(self.window, device=counts.device)
        window = history.gather(1, places.clamp(0, history.shape[1] - 1))  # (B, W)
        earlier = window.unfold(1, prefix, 1)[:, :candidates]  # (B, C, n-1)
        latest = window[:, None, self.window - prefix :]  # (B, 1, n-1)
        repeats = (earlier == latest).all(dim=-1) & (places[:, :candidates] >= 0)  # (B, C)
        endings = window[:, prefix:]  # (B, C)
        if len(self.whitelist):
            repeats = repeats & (endings[:, :, None] != self.whitelist).all(dim=-1)
        ban = torch.where(repeats, -torch.inf, torch.inf).to(scores.dtype)
        return scores.scatter_reduce_(1, endings, ban, "amin")
