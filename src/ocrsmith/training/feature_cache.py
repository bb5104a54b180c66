"""Image features, computed once per image and not once per epoch: the frozen encoder never changes them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import Encoded
from ocrsmith.training.collate import Collator, TrainingItem, TrainingSamples, without_images


class FeatureCache:
    """Features of every training sample in host memory, and the token ids that go with them."""

    def __init__(self, encoded: list[Encoded], features: list[Tensor]) -> None:
        """
        Args:
            encoded: by number, without images.
            features: by number, (image tokens of the sample, H).
        """
        self.encoded = encoded
        self.features = features

    def __call__(self, index: int) -> Tensor:
        return self.features[index]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.features)

    @staticmethod
    def size_of(image_tokens: int, hidden_size: int, dtype: torch.dtype) -> int:
        """Bytes for that many image tokens."""
        return image_tokens * hidden_size * dtype.itemsize

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        model: OcrModel,
        samples: TrainingSamples,
        *,
        batch_size: int,
        workers: int,
        autocast: torch.dtype | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> FeatureCache:
        """Encodes every image once, in batches.

        Args:
            model: its encoder makes the features; in eval mode for the time being.
            samples: what is trained on.
            batch_size: samples that go through the encoder at once.
            workers: processes that decode images ahead.
            autocast: low-precision format of the arithmetic, as training has it.
            progress: is told (done, in all).
        """
        encoded: list[Encoded] = []
        features: list[Tensor] = []
        collator = _KeepItems(Collator(samples.processor))
        loader = DataLoader(samples, batch_size=batch_size, num_workers=workers, collate_fn=collator)
        was_training = model.training
        model.eval()
        device = model.device
        for items, batch in loader:
            with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                rows = model.encode_images(batch["views"], batch["image_layouts"])
            tokens = [item.encoded.input_ids.count(samples.processor.tokens.image) for item in items]
            features += [part.clone() for part in rows.to("cpu", model.dtype).split(tokens)]
            encoded += [item.encoded for item in items]
            if progress:
                progress(len(encoded), len(samples))
        model.train(was_training)
        return cls(encoded, features)


class _KeepItems:
    """Collates, and hands the items on without their images (the batch has those)."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, items: list[TrainingItem]) -> tuple[list[TrainingItem], dict]:
        bare = [TrainingItem(item.index, without_images(item.encoded)) for item in items]
        return bare, self.collator(items)
