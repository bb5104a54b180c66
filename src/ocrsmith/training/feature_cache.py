"""Image features, computed once per image and not once per epoch: the frozen encoder never changes them.

On disk they outlast the run (`FeatureStore`), in memory they do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL import features as pillow_features
from torch import Tensor

from ocrsmith.errors import OcrsmithError, SettingsError
from ocrsmith.images.resize import MODES
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import Encoded, ProcessingSettings
from ocrsmith.training.collate import TrainingSamples, cannot_prepare
from ocrsmith.training.feature_encoding import encode_samples
from ocrsmith.training.feature_store import FeatureStore, image_key
from ocrsmith.training.hardware import available_memory
from ocrsmith.training.survey import upright_size

PROCESSING_VERSION = 1
"""Raised when views of the same image and mode change, or the way in which the encoder takes them."""

_ENCODER = ("sam_model", "vision_model", "projector")
_ENCODER_PARAMETERS = ("image_newline", "view_seperator")
Progress = Callable[[int, int], None]


class FeatureCache:
    """Features of every training sample, and the token ids that go with them."""

    def __init__(self, encoded: list[Encoded], keys: list[str], store: FeatureStore | _Memory) -> None:
        """
        Args:
            encoded: by number, without images.
            keys: by number; equal images have one key.
            store: key → (image tokens of the sample, H).
        """
        self.encoded = encoded
        self.keys = keys
        self.store = store
        self.notes = list(store.notes)
        """What a user should know of the cache: damaged files, features that are not on disk."""
        self.folder = store.folder if isinstance(store, FeatureStore) else None
        """Of these features on disk; None in memory."""
        self.fresh = 0
        """Images that had to be encoded for this run."""
        self._resident: tuple[Tensor, dict[str, slice]] | None = None

    def __call__(self, index: int) -> Tensor:
        """(image tokens, H) on the host; shares the cache's memory: not to be changed."""
        return self.store[self.keys[index]]

    def gather(self, indices: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """(I, H) features of these samples, one after another, on `device`.

        For a GPU the copy starts from pinned memory and nothing waits for it; features that `keep_on` put there
        are only gathered.
        """
        device = torch.device(device)
        if self._resident is not None and self._resident[0].device.type == device.type:
            rows, places = self._resident
            return torch.cat([rows[places[self.keys[index]]] for index in indices])
        parts = [self(index) for index in indices]
        if device.type != "cuda":
            return torch.cat(parts).to(device)
        shape = (sum(len(part) for part in parts), parts[0].shape[1])
        staged = torch.empty(shape, dtype=parts[0].dtype, pin_memory=True)
        torch.cat(parts, out=staged)
        return staged.to(device, non_blocking=True)

    def keep_on(self, device: torch.device | str, budget: int) -> bool:
        """Copies all features to `device` if they take no more than `budget` bytes; says whether it did."""
        if self.nbytes > budget:
            return False
        keys = list(dict.fromkeys(self.keys))
        lengths = [len(self.store[key]) for key in keys]
        ends = list(accumulate(lengths))
        first = self.store[keys[0]]
        rows = torch.empty((ends[-1], first.shape[1]), dtype=first.dtype, device=device)
        places = {key: slice(end - n, end) for key, end, n in zip(keys, ends, lengths, strict=True)}
        for key, place in places.items():
            rows[place].copy_(self.store[key])
        self._resident = rows, places
        return True

    @property
    def nbytes(self) -> int:
        """Bytes of the features; equal images count once."""
        return sum(self.store[key].nbytes for key in set(self.keys))

    @staticmethod
    def size_of(image_tokens: int, hidden_size: int, dtype: torch.dtype) -> int:
        """Bytes for that many image tokens."""
        return image_tokens * hidden_size * dtype.itemsize

    @classmethod
    def build(
        cls,
        model: OcrModel,
        samples: TrainingSamples,
        *,
        batch_size: int,
        workers: int,
        autocast: torch.dtype | None = None,
        progress: Progress | None = None,
        folder: Path | None = None,
        limit: int | None = None,
        strict: bool = False,
    ) -> FeatureCache:
        """Encodes every image once, in batches; those that the cache folder has not at all.

        What was encoded when it is interrupted stays in the folder.

        Args:
            model: its encoder makes the features; in eval mode for the time being.
            samples: what is trained on.
            batch_size: samples that go through the encoder at once.
            workers: processes that decode images ahead.
            autocast: low-precision format of the arithmetic, as training has it.
            progress: is told (done, in all).
            folder: root of the cache on disk; None: the features are kept in memory.
            limit: most bytes of that folder; None: no bound.
            strict: an error where the folder takes no more, instead of keeping the rest in memory.

        Raises:
            SettingsError: the encoder has an adapter.
            DataError: a sample cannot be prepared, or the folder holds something else.
            OutputError: the folder cannot be written and the rest does not fit into memory.
        """
        wanted = [_look(samples, index) for index in range(len(samples))]
        missing = {item.key: index for index, item in reversed(list(enumerate(wanted)))}
        kept: FeatureStore | _Memory = _Memory()
        if folder is None:
            encoder_parts(model)
        else:
            spare = 0 if strict else available_memory() // 4
            kept = open_store(model, samples.processor.settings, folder, autocast, limit=limit, spare=spare)
            absent = kept.require({item.key: item.image_tokens for item in wanted})
            rows = sum(wanted[missing[key]].image_tokens for key in absent)
            kept.reserve(cls.size_of(rows, kept.hidden_size, kept.dtype))
            missing = {key: index for key, index in missing.items() if key in absent}
        total = len({item.key for item in wanted})
        tell = progress or (lambda done, total: None)
        with kept:
            parts = encode_samples(
                model,
                samples,
                sorted(missing.values()),
                batch_size=batch_size,
                workers=workers,
                autocast=autocast,
            )
            for number, (index, part) in enumerate(parts, start=1):
                kept.add(wanted[index].key, part)
                tell(total - len(missing) + number, total)
        tell(total, total)
        cache = cls([item.encoded for item in wanted], [item.key for item in wanted], kept)
        cache.fresh = len(missing)
        return cache


class _Memory(dict[str, Tensor]):
    """Features that end with the run."""

    add = dict.__setitem__
    notes: tuple[str, ...] = ()

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None:
        """Has nothing to end."""


# --- what is in the cache ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A sample whose features are needed."""

    key: str
    image_tokens: int
    encoded: Encoded


def _look(samples: TrainingSamples, index: int) -> _Wanted:
    """Token ids and key of a sample, from its image's header and bytes; decodes no pixels."""
    sample, processor = samples.samples[samples.kept[index]], samples.processor
    try:
        encoded = processor.encode_text(upright_size(sample.image), sample.prompt, sample.text)
    except OcrsmithError as error:
        raise cannot_prepare(sample, error) from error
    return _Wanted(image_key(sample.image), encoded.input_ids.count(processor.tokens.image), encoded)


def open_store(
    model: OcrModel,
    processing: ProcessingSettings,
    folder: Path,
    autocast: torch.dtype | None = None,
    *,
    limit: int | None = None,
    spare: int = 0,
) -> FeatureStore:
    """The features in `folder` that this encoder makes of images prepared in this way.

    Args:
        model, autocast: as `FeatureCache.build` takes them.
        processing: mode, tiles and transparency count.
        folder: root of the cache.
        limit, spare: most bytes on disk, and in memory where the disk takes no more.
    Raises:
        SettingsError: the encoder has an adapter.
        DataError: the folder holds something else.
    """
    about = {
        "encoder": encoder_digest(model),
        "arithmetic": str(autocast) if autocast else "as the weights",
        **describe_processing(processing),
    }
    newline = model.model.image_newline
    return FeatureStore(
        folder, about, dtype=newline.dtype, hidden_size=len(newline), limit=limit, spare_memory=spare
    )


def encoder_parts(model: OcrModel) -> dict[str, Tensor]:
    """All that image features depend on: SAM, CLIP, projector, and the two tokens between the rows and images.

    Raises:
        SettingsError: an adapter is among it, so that features change while it is trained.
    """
    parts = {
        f"{name}.{inner}".replace("_orig_mod.", ""): tensor
        for name in _ENCODER
        for inner, tensor in getattr(model.model, name).state_dict().items()
    }
    if any("lora_" in name for name in parts):
        raise SettingsError(
            "Image features cannot be cached: the encoder has an adapter and changes while it is trained.",
            place="cache_features",
            mend="set cache_features to off, or take vision and projector out of lora.targets",
        )
    return parts | {name: getattr(model.model, name).detach() for name in _ENCODER_PARAMETERS}


def encoder_digest(model: OcrModel) -> str:
    """SHA-256 over names, number formats, shapes and bytes of `encoder_parts`, and over the encoder's sizes.

    Raises: as `encoder_parts`.
    """

    def digest(item: tuple[str, Tensor]) -> bytes:
        name, tensor = item
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)}:".encode() + content.data).digest()

    with ThreadPoolExecutor(4) as pool:
        lines = list(pool.map(digest, sorted(encoder_parts(model).items())))
    sizes = repr((asdict(model.config.sam_sizes), asdict(model.config.clip_sizes)))
    return hashlib.sha256(b"".join([*lines, sizes.encode()])).hexdigest()


def describe_processing(settings: ProcessingSettings) -> dict[str, Any]:
    """What decides the pixels of the views, as JSON: settings, our version, and what Pillow does here."""
    tiled = MODES[settings.mode].tile_size > 0
    return {
        "mode": settings.mode,
        "min_tiles": settings.min_tiles if tiled else 0,
        "max_tiles": settings.max_tiles if tiled else 0,
        "alpha": settings.alpha,
        "processing": PROCESSING_VERSION,
        "resampling": resampling_digest(),
        "jpeg": str(pillow_features.version("libjpeg_turbo") or pillow_features.version("jpg")),
    }


@lru_cache(maxsize=1)
def resampling_digest() -> str:
    """Hash of what this machine's Pillow makes of a few images. Its versions resize some shapes differently."""
    digest = hashlib.sha256()
    for width, height, to in ((61, 97, (40, 30)), (24, 200, (18, 40)), (200, 24, (40, 18)), (30, 20, (64, 48))):
        values = (np.arange(height)[:, None] ** 2 * 31 + np.arange(width)[None, :] ** 2 * 17) % 251
        image = Image.fromarray(values.astype(np.uint8))
        digest.update(image.resize(to, Image.Resampling.BICUBIC).tobytes())
    return digest.hexdigest()[:16]
