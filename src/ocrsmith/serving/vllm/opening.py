"""From a model's name to a backend: checks, adapters, what is served, and vLLM's command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ocrsmith.engines.native.engine import saved_decoding
from ocrsmith.engines.vllm.engine import BATCH_SIZE
from ocrsmith.engines.vllm.requests import MODE, changed_processing
from ocrsmith.errors import SettingsError
from ocrsmith.export.folder import VLLM_MAX_TILES
from ocrsmith.export.merge import MergeProgress
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import resolve_model
from ocrsmith.serving.backends import ServedModel
from ocrsmith.serving.vllm.adapters import FindCheck, Placed, Tell, adapter_folder, place_adapters
from ocrsmith.serving.vllm.backend import VllmBackend
from ocrsmith.serving.vllm.command import (
    check_texts,
    check_weights,
    vllm_command,
    vllm_environment,
    vllm_version,
)

VLLM_TILES = (2, VLLM_MAX_TILES)
"""The fewest and the most tiles that vLLM 0.32 makes of a page; another number shows on the first page."""


@dataclass(frozen=True)
class VllmOptions:
    """How vLLM runs; see `vllm_command`."""

    dtype: str = "auto"
    batch_size: int = BATCH_SIZE
    gpu_memory_utilization: float | None = None
    eager: bool = False
    max_new_tokens: int | None = None
    """Longest answer instead of the saved one, in tokens."""


@dataclass(frozen=True)
class VllmPlan:
    """All that is known before vLLM is started."""

    placed: Placed
    models: tuple[ServedModel, ...]
    """Adapters first: who asks for none by name gets the first of them."""
    processor: OcrProcessor
    options: VllmOptions
    not_honoured: Mapping[str, str]
    """Settings that vLLM does not follow, and why."""

    def command(
        self,
        *,
        socket: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 8000,
        image_hosts: Sequence[str] = (),
    ) -> list[str]:
        """vLLM's command line; see `vllm_command`."""
        options = self.options
        return vllm_command(
            str(self.placed.folder),
            name=self.placed.name,
            context=self.models[0].context,
            adapters=self.placed.adapters,
            rank=self.placed.rank,
            dtype=options.dtype,
            batch_size=options.batch_size,
            gpu_memory_utilization=options.gpu_memory_utilization,
            eager=options.eager,
            socket=socket,
            host=host,
            port=port,
            image_hosts=image_hosts,
        )

    def backend(self, *, tell: Tell = lambda line: None, on_line: Tell | None = None) -> VllmBackend:
        """The backend; vLLM is started by its `start`. See `VllmBackend`."""
        return VllmBackend(
            self.models,
            self.processor,
            lambda socket: self.command(socket=socket),
            environment=vllm_environment(),
            tell=tell,
            on_line=on_line,
        )


def plan_vllm(
    model: str,
    *,
    name: str | None = None,
    adapters: Mapping[str, Path] | None = None,
    options: VllmOptions | None = None,
    check: FindCheck = lambda adapter: None,
    progress: MergeProgress | None = None,
    tell: Tell = lambda line: None,
    installed: bool = True,
) -> VllmPlan:
    """Checks model and adapters, and decides how they are served. Adapters may be merged here.

    Args:
        model: a folder in hub layout with the encoder's published sizes, or a hub id.
        name: what clients ask for; None: the folder's name, or the hub id.
        adapters: run or adapter folders by the names that clients ask for.
        options: how vLLM runs.
        check, progress, tell: see `place_adapters`.
        installed: whether vLLM has to be here; not for a command that is only shown.

    Raises:
        MissingExtraError: vLLM is not installed.
        WeightsError, AdapterError, InputError: model or adapters cannot be used, by vLLM or at all.
        SettingsError: a wrong option value, an old vLLM, adapters that cannot be served together.
    """
    options = options or VllmOptions()
    if installed:
        vllm_version()
    folder = resolve_model(model)
    config = check_weights(folder)
    name = name or served_name(model)
    given = {key: adapter_folder(path) for key, path in (adapters or {}).items()}
    if name in given:
        raise SettingsError(
            f"Model and adapter have the same name, {name!r}.", place="--adapter", mend="Give it one: NAME=DIR."
        )
    placed = place_adapters(folder, name, given, check=check, progress=progress, tell=tell)
    if placed.adapters and installed:
        check_lora(config)
    if placed.merged is None:
        check_texts(folder)
    saved = OcrProcessor.from_pretrained(placed.folder)
    processing, missed = changed_processing(saved.settings.model_dump(), VLLM_TILES)
    processor = OcrProcessor(saved.tokenizer, ProcessingSettings.from_values(processing))
    context = config.decoder_sizes.max_position_embeddings
    limit = options.max_new_tokens
    parent = name if placed.merged is not None else None

    def served(key: str, folders: Sequence[Path], parent: str | None) -> ServedModel:
        decoding = saved_decoding(folders, limit)
        return ServedModel(key, context, decoding, MODE, parent, decoding.whitelist_ids(saved.tokenizer))

    whole = served(placed.name, [placed.folder], parent)
    others = [served(key, [path, folder], name) for key, path in placed.adapters.items()]
    return VllmPlan(placed, (*others, whole), processor, options, missed)


def check_lora(config: OcrConfig) -> None:
    """vLLM 0.32 takes GPU kernels for all experts once LoRA is on; without a GPU the first request ends it.

    Raises:
        SettingsError: the model has experts, and there is no GPU here.
    """
    sizes = config.decoder_sizes
    if sizes.first_k_dense_replace < sizes.num_hidden_layers and not torch.accelerator.is_available():
        raise SettingsError(
            "Without a GPU vLLM cannot run LoRA beside a model's experts: the first request would end it.",
            place="--adapter",
            mend="Merge the adapter with `ocrsmith export` and serve that folder, or use --engine native.",
        )


def served_name(model: str) -> str:
    """What clients ask for where nothing else is said: `nano`, a folder's name, a hub id."""
    folder = Path(model).expanduser()
    return folder.resolve().name if folder.is_dir() else model
