"""The recorded outputs of the original implementation on its tiny checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.weights import load_model

IMAGE_TOKEN = 500
CASES = ("tiny512", "small640", "base1024", "large1280", "gundam")


@dataclass
class Recording:
    """`golden/tiny_*`: inputs, and what the original made of them."""

    golden: Path
    _views: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def meta(self) -> dict[str, Any]:
        return json.loads((self.golden / "tiny_outputs.json").read_text())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.golden / "tiny_outputs.safetensors")

    @property
    def tolerances(self) -> dict[str, float]:
        return self.meta["recommended_tolerances_float32"]

    @property
    def checkpoint(self) -> Path:
        return self.golden / "tiny_checkpoint"

    def under(self, prefix: str) -> dict[str, Tensor]:
        """All recorded tensors under a prefix, without it."""
        return {
            key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)
        }

    def load(self) -> OcrModel:
        model = load_model(str(self.checkpoint))
        model.config.image_token_id = IMAGE_TOKEN  # the recordings' choice; the config has no word of it
        return model

    def views_of(self, name: str) -> Tensor:
        """(N, S, S, 3) uint8 of an entry of `input_files`."""
        files = [self.golden / "tiny_inputs" / file for file in self.meta["input_files"][name]]
        return torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))

    def images(self, case: str) -> tuple[dict[int, Tensor], list[tuple[int, int, int, int]]]:
        """Views and layout of a case's one image."""
        if case == "gundam":
            grid = self.meta["grid"]["gundam"]
            layout = (1024, 640, grid["width_crop_num"], grid["height_crop_num"])
            return {640: self.views_of("gundam_tiles"), 1024: self.views_of("base1024")}, [layout]
        views = self.views_of(case)
        return {views.shape[1]: views}, [(views.shape[1], 0, 0, 0)]

    def inputs(self, case: str) -> dict[str, Any]:
        """What `OcrModel.forward` takes, a batch of one."""
        views, layouts = self.images(case)
        return {
            "input_ids": self.tensors[f"{case}/input_ids"].long()[None],
            "labels": self.tensors[f"{case}/labels"].long()[None],
            "views": views,
            "image_layouts": layouts,
        }

    def prompt(self, case: str) -> Tensor:
        """(1, T) ids up to the response: bos, image, prompt."""
        length = 1 + self.meta["n_image_tokens"][case] + len(self.meta["prompt_ids"])
        return self.tensors[f"{case}/input_ids"].long()[None, :length]

    def batch(self, cases: list[str], side: str) -> dict[str, Any]:
        """Several cases in one padded batch, views collected by size as the processor does."""
        singles = [self.inputs(case) for case in cases]
        length = max(single["input_ids"].shape[1] for single in singles)
        views: dict[int, list[Tensor]] = {}
        padded: dict[str, list[Tensor]] = {"input_ids": [], "labels": [], "attention_mask": []}
        for single in singles:
            for size, stack in single["views"].items():
                views.setdefault(size, []).append(stack)
            single["attention_mask"] = torch.ones_like(single["input_ids"])
            missing = length - single["input_ids"].shape[1]
            widths = (0, missing) if side == "right" else (missing, 0)
            for name, filling in (("input_ids", 2), ("labels", -100), ("attention_mask", 0)):
                padded[name].append(torch.nn.functional.pad(single[name], widths, value=filling))
        return {
            **{name: torch.cat(rows) for name, rows in padded.items()},
            "views": {size: torch.cat(stacks) for size, stacks in views.items()},
            "image_layouts": [layout for single in singles for layout in single["image_layouts"]],
        }


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """These models are so small that threads cost more than they bring, many times more on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def recording(golden: Path) -> Recording:
    return Recording(golden)


@pytest.fixture(scope="session")
def recorded_model(recording: Recording) -> OcrModel:
    """The tiny checkpoint, in evaluation mode. Tests that change it load their own."""
    return recording.load()
