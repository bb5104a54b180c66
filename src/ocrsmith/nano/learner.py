"""What pretraining trains: the nano model with two CTC heads, and AdamW on float32 masters of its weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.nano.alphabet import alphabet
from ocrsmith.nano.architecture import VIEW_SIZE, nano_config
from ocrsmith.nano.tokenizer import BOS, EOS, build_tokenizer
from ocrsmith.text.prompts import FREE_OCR

GRID = VIEW_SIZE // 64
"""Image tokens a side."""


@dataclass(frozen=True)
class Vocabulary:
    """Token ids of a training sequence, and classes of the CTC heads (0 is the blank)."""

    bos: int
    eos: int
    image: int
    prompt: tuple[int, ...]
    size: int
    characters: dict[str, int] = field(default_factory=dict)

    @classmethod
    def build(cls) -> Vocabulary:
        tokenizer = build_tokenizer()
        prompt = tokenizer.encode(FREE_OCR.replace("<image>", ""), add_special_tokens=False)
        characters = {character: index for index, character in enumerate(alphabet(), start=1)}
        bos, eos, image = (tokenizer.get_vocab()[token] for token in (BOS, EOS, "<image>"))
        return cls(bos, eos, image, tuple(prompt), len(tokenizer), characters)

    @property
    def head(self) -> list[int]:
        """[bos] + one view's image tokens + prompt."""
        return [self.bos, *[self.image] * (GRID * (GRID + 1) + 1), *self.prompt]


class CtcHead(nn.Module):
    """Reads characters off a map of features, column by column: each column answers for `slots` places.

    A line is stretched to the square view, so a column of the map holds all rows of the same few characters.
    """

    def __init__(self, channels: int, rows: int, slots: int, classes: int, inner: int = 192) -> None:
        super().__init__()
        self.slots = slots
        self.norm = nn.LayerNorm(channels)
        self.columns = nn.Linear(channels * rows, slots * inner)
        self.classes = nn.Linear(inner, classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, rows, columns, C) → logits (B, columns * slots, classes)."""
        x = self.norm(features).permute(0, 2, 1, 3).flatten(2)  # (B, columns, rows * C)
        x = F.gelu(self.columns(x)).unflatten(-1, (self.slots, -1)).flatten(1, 2)
        return self.classes(x)


class Learner(nn.Module):
    """The nano model with its two CTC heads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        config = nano_config(vocabulary.size, vocabulary.image)
        config.router_aux_loss_alpha = 0.01  # keeps all experts in use; off in the saved model
        self.ocr = OcrModel(config)
        classes = len(vocabulary.characters) + 1
        self.map_head = CtcHead(config.sam_sizes.out_chans, 4 * GRID, 3, classes)
        self.token_head = CtcHead(config.decoder_sizes.hidden_size, GRID, 12, classes)

    def encode(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S) uint8 grey → SAM's map (B, 4g, 4g, C) and image tokens (B, g*g, H)."""
        model, sam = self.ocr.model, self.ocr.model.sam_model
        pixels = ((views[:, None].float() / 255 - 0.5) / 0.5).expand(-1, 3, -1, -1).to(sam.pos_embed.dtype)
        x = sam.patch_embed(pixels) + sam.pos_embed
        for block in sam.blocks:
            x = block(x)
        fine = sam.neck(x.permute(0, 3, 1, 2))
        coarse = sam.net_3(sam.net_2(fine))
        clip = model.vision_model(coarse)
        tokens = model.projector(torch.cat([clip[:, 1:], coarse.flatten(2).transpose(1, 2)], dim=-1))
        return fine.permute(0, 2, 3, 1), tokens

    def forward(
        self, encode: Any, batch: dict[str, Tensor], ctc_weight: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The step's loss, and its parts for the log (tensors on the device, not yet waited for)."""
        fine, tokens = encode(batch["views"])
        count = tokens.shape[0]
        newline = self.ocr.model.image_newline.expand(count, GRID, 1, -1)
        rows = torch.cat([tokens.view(count, GRID, GRID, -1), newline], dim=2).flatten(1, 2)
        separator = self.ocr.model.view_seperator.expand(count, 1, -1)
        features = torch.cat([rows, separator], dim=1).flatten(0, 1)  # (B * 73, H)
        out = self.ocr(
            input_ids=batch["input_ids"],
            labels=batch["labels"],
            label_rows=batch["label_rows"],
            image_features=features,
            use_cache=False,
        )
        targets = batch["labels"].flatten()[batch["label_rows"] + 1]
        parts = {"text": out.loss.detach(), "accuracy": (out.logits.argmax(-1) == targets).float().mean()}
        loss = out.loss
        for name, logits in (
            ("ctc_map", self.map_head(fine)),
            ("ctc_tokens", self.token_head(tokens.view(count, GRID, GRID, -1))),
        ):
            parts[name] = ctc_loss(logits, batch["targets"], batch["target_lengths"])
            loss = loss + ctc_weight * parts[name]
            parts[name] = parts[name].detach()
        return loss, parts


def ctc_loss(logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Mean CTC loss per character over the lines that have targets.

    Args:
        logits: (B, places, classes).
        targets: all lines' classes, one after another.
        lengths: (B,) on the host, so that nothing waits for the device; 0 leaves a line out.
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # (places, B, classes)
    places = torch.full_like(lengths, log_probs.shape[0])
    losses = F.ctc_loss(log_probs, targets, places, lengths, reduction="none", zero_infinity=True)
    counted = (lengths > 0).to(losses.device, non_blocking=True)
    return (losses * counted).sum() / max(int(lengths.sum()), 1)


class Masters:
    """AdamW on float32 masters of bf16 weights."""

    def __init__(self, model: nn.Module, lr: float, weight_decay: float) -> None:
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.masters = [p.detach().float().clone().requires_grad_() for p in self.weights]
        matrices = [m for m in self.masters if m.dim() > 1]
        vectors = [m for m in self.masters if m.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        fused = self.masters[0].is_cuda
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-8, fused=fused)

    def step(self, lr: float) -> Tensor:
        """Averages gradients over all GPUs, clips, steps; returns the gradients' norm."""
        grads = [w.grad if w.grad is not None else torch.zeros_like(w) for w in self.weights]
        flat = torch.cat([g.flatten() for g in grads])
        if dist.is_initialized():
            dist.all_reduce(flat, op=dist.ReduceOp.AVG)
        flat = flat.float()
        norm = flat.norm()
        flat = flat * (1.0 / norm.clamp(min=1.0))
        for master, part in zip(self.masters, flat.split([g.numel() for g in grads]), strict=True):
            master.grad = part.view_as(master)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.publish()
        for weight in self.weights:
            weight.grad = None
        return norm

    @torch.no_grad()
    def publish(self) -> None:
        """Rounds the masters into the model's weights."""
        for weight, master in zip(self.weights, self.masters, strict=True):
            weight.copy_(master)
