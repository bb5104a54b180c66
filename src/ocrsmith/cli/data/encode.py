"""`ocrsmith data encode`: image features of a dataset, made ahead of training and kept on disk."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import Device, Mode, Split
from ocrsmith.cli.progress import EncodeBar
from ocrsmith.errors import DataError, require

if TYPE_CHECKING:
    from ocrsmith.records import SplitName
    from ocrsmith.training.collate import TrainingSamples
    from ocrsmith.training.settings import TrainSettings


class Precision(StrEnum):
    """Number format of the encoder, as training has it."""

    auto = "auto"
    bf16 = "bf16"
    fp16 = "fp16"
    fp32 = "fp32"


def encode(
    dataset: Annotated[
        Path, typer.Argument(metavar="DIR", help="A dataset folder, or the prefix of its files.")
    ],
    model: Annotated[str, typer.Option(help="nano, a model folder in hub layout, or a hub id.")],
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--cache-dir",
            metavar="CACHE",
            help="Folder of the feature cache; training must be given the same.",
            show_default="$OCRSMITH_CACHE/features, else in ~/.cache/ocrsmith",
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Samples to encode.")] = Split.train,
    mode: Annotated[Mode | None, typer.Option(help="Resolution mode.", show_default="as the model's")] = None,
    device: Annotated[Device | None, typer.Option(help="Where to encode.", show_default="auto")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Number format of the training to come.", show_default="auto")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images encoded at once.", show_default="by device"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that prepare images.", show_default="by the machine")
    ] = None,
    cache_gb: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Most space of CACHE; what was unused for longest goes first.",
            show_default="no bound",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Encode a dataset's images ahead of training, once for all its runs.

    Training with the same model, mode and precision then finds every image's
    features in CACHE. What is there already is not encoded again, so that an
    interrupted command goes on where it was.

    ocrsmith data encode lines --model nano
    """
    require("torch", extra="train", why="Encoding images")
    from ocrsmith.cli.train import resolve_settings

    settings = resolve_settings(
        {
            "model": model,
            "data": str(dataset),
            "device": device.value if device else None,
            "precision": precision.value if precision else None,
            "workers": workers,
            "processing": {"mode": mode.value if mode else None},
        }
    )
    if settings.lora.trains_vision:
        output.warn(
            f"{Path(settings.model).name} asks for lora.targets with the encoder: such a training cannot use "
            "the cache. Train with other lora.targets to use it."
        )
    result = _Encoding(settings, split.value, cache_dir, cache_gb).run(batch_size)
    if as_json:
        output.print_json(result)
        return
    console = output.console()
    console.print(
        f"{result['images']:,} images, {result['encoded']:,} encoded now, in {result['seconds']:.1f} s\n"
        f"{result['bytes'] / 2**20:,.1f} MB of features in {result['cache']}",
        markup=False,
        soft_wrap=True,
    )
    if result["too_long"]:
        console.print(f"{result['too_long']:,} samples are too long to be trained on and were left out.")


class _Encoding:
    """Model, samples and cache of one command."""

    def __init__(
        self, settings: TrainSettings, split: SplitName, cache_dir: Path | None, cache_gb: float | None
    ) -> None:
        from ocrsmith.model.weights import load_model, load_processor
        from ocrsmith.training.feature_store import default_folder
        from ocrsmith.training.hardware import choose_hardware
        from ocrsmith.training.run import run_processor

        self.settings = settings
        self.split = split
        self.folder = (cache_dir or default_folder()).expanduser()
        self.limit = None if cache_gb is None else int(cache_gb * 2**30)
        self.hardware = choose_hardware(settings)
        self.too_long = 0
        with output.notes().status(f"Loading {settings.model}"):
            self.model = load_model(settings.model, dtype=self.hardware.dtype, device=self.hardware.device)
            self.processor = run_processor(load_processor(settings.model), settings, self.model)

    def run(self, batch_size: int | None) -> dict[str, Any]:
        """Encodes what is missing; the result as JSON."""
        from ocrsmith.training.feature_cache import FeatureCache

        start = time.monotonic()
        samples = self._samples()
        bar = EncodeBar()
        on_gpu = self.hardware.on_gpu
        try:
            with bar:
                cache = FeatureCache.build(
                    self.model,
                    samples,
                    batch_size=batch_size or (16 if on_gpu else 4),
                    workers=self._workers(),
                    progress=bar,
                    folder=self.folder,
                    limit=self.limit,
                    strict=True,
                )
        except KeyboardInterrupt:
            kept = f"{bar.done:,} of {bar.total:,} images" if bar.total else "Earlier features"
            output.notes().print(f"Stopped. {kept} are kept; the same command goes on.", soft_wrap=True)
            raise
        for note in cache.notes:
            output.warn(note)
        return {
            "cache": self.folder,
            "collection": cache.folder,
            "samples": len(samples),
            "images": bar.total,
            "encoded": cache.fresh,
            "too_long": self.too_long,
            "bytes": cache.nbytes,
            "seconds": time.monotonic() - start,
            "device": str(self.hardware.device),
            "precision": self.hardware.precision,
            "notes": cache.notes,
        }

    def _workers(self) -> int:
        if self.settings.workers is not None:
            return self.settings.workers
        return min(8, max(1, (os.cpu_count() or 1) - 1)) if self.hardware.on_gpu else 0

    def _samples(self) -> TrainingSamples:
        """The samples of the split that are within the length limit, as training has them."""
        from ocrsmith.datasets import open_dataset
        from ocrsmith.training.collate import TrainingSamples
        from ocrsmith.training.survey import survey

        opened = open_dataset(self.settings.data)
        table = opened.table(self.split)
        if not len(table):
            raise DataError(
                f"The dataset has no samples in {self.split}.",
                place=str(opened.path),
                mend="choose another --split",
            )
        with output.notes().status("Looking at the samples"):
            found = survey(table, self.processor)
        self.too_long = len(found.too_long)
        return TrainingSamples(table, self.processor, found.kept)
