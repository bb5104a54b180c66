"""How adapters get into vLLM: as LoRA where it is sure to reach them, else merged once and kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ocrsmith.errors import AdapterError, SettingsError
from ocrsmith.export.merge import Merge
from ocrsmith.model.lora import add_lora, save_adapter
from ocrsmith.model.weights import NANO_FOLDER, load_model, read_config, save_model
from ocrsmith.serving.vllm.adapters import (
    adapter_folder,
    cache_folder,
    fits_lora,
    merged_folder,
    place_adapters,
)
from ocrsmith.serving.vllm.opening import check_lora
from ocrsmith.settings.lora import LoraSettings, LoraTarget


def make_adapter(folder: Path, *targets: LoraTarget, rank: int = 4) -> Path:
    model = add_lora(load_model("nano"), LoraSettings(r=rank, alpha=8, targets=targets))
    generator = torch.Generator().manual_seed(rank)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    save_adapter(model, folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        "plain": make_adapter(root / "plain", "attention", "dense_mlp"),
        "wide": make_adapter(root / "wide", "attention", rank=12),
        "experts": make_adapter(root / "experts", "attention", "routed_experts"),
        "shared": make_adapter(root / "shared", "shared_experts"),
        "vision": make_adapter(root / "vision", "attention", "vision"),
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OCRSMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "merged"


def test_language_linears_go_by_lora(adapters: dict[str, Path]) -> None:
    told: list[str] = []
    chosen = {name: adapters[name] for name in ("plain", "wide")}
    placed = place_adapters(NANO_FOLDER, "nano", chosen, tell=told.append)
    assert (placed.folder, placed.name, placed.rank, placed.merged) == (NANO_FOLDER, "nano", 12, None)
    assert placed.adapters == chosen
    assert told == ["plain, wide: by vLLM's LoRA, beside nano."]


def test_without_adapters_the_base_is_served(cache: Path) -> None:
    placed = place_adapters(NANO_FOLDER, "nano", {})
    assert (placed.folder, placed.name, placed.rank) == (NANO_FOLDER, "nano", 0)
    assert not cache.exists()


@pytest.mark.parametrize("has_gpu", [True, False])
def test_lora_beside_experts_wants_a_gpu(monkeypatch: pytest.MonkeyPatch, has_gpu: bool) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    if has_gpu:
        check_lora(read_config(NANO_FOLDER))
    else:
        with pytest.raises(SettingsError, match="Without a GPU"):
            check_lora(read_config(NANO_FOLDER))


@pytest.mark.parametrize(
    ("name", "fits"), [("plain", True), ("experts", False), ("shared", False), ("vision", False)]
)
def test_what_lora_may_miss_is_known(adapters: dict[str, Path], name: str, fits: bool) -> None:
    assert fits_lora(NANO_FOLDER, adapters[name]) is fits


def test_experts_are_merged_once_and_kept(adapters: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    told: list[str] = []
    seen: list[tuple[int, int]] = []
    chosen = {"lines": adapters["experts"]}
    placed = place_adapters(
        NANO_FOLDER, "nano", chosen, tell=told.append, progress=lambda done, total: seen.append((done, total))
    )
    assert (placed.name, placed.adapters, placed.merged) == ("lines", {}, adapters["experts"])
    assert placed.folder.parent == cache == cache_folder()
    assert "without verification" in told[0]
    assert "experts" in told[-1]
    assert seen[-1][0] == seen[-1][1]
    (tmp_path / "expected").mkdir()
    Merge.plan(NANO_FOLDER, adapters["experts"]).write(tmp_path / "expected")
    expected, got = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "expected", placed.folder)
    )
    assert all(torch.equal(got[name], tensor) for name, tensor in expected.items())
    written = (placed.folder / "model.safetensors").stat().st_mtime_ns
    again = place_adapters(NANO_FOLDER, "nano", chosen, tell=told.append)
    assert again == placed
    assert (placed.folder / "model.safetensors").stat().st_mtime_ns == written
    assert any("Merged before" in line for line in told)


def test_another_adapter_or_other_settings_are_merged_anew(
    adapters: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(adapters["experts"], tmp_path / "copy")
    first = merged_folder(NANO_FOLDER, adapters["experts"])
    assert merged_folder(NANO_FOLDER, copy) == first, "content counts, not the place"
    (copy / "ocrsmith_decoding.json").write_text(json.dumps({"ngram_size": 7}))
    second = merged_folder(NANO_FOLDER, copy)
    assert second != first
    assert json.loads((second / "ocrsmith_decoding.json").read_text())["ngram_size"] == 7


def test_a_merge_that_breaks_off_leaves_nothing(adapters: dict[str, Path], cache: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merged_folder(NANO_FOLDER, adapters["experts"], progress=stop)
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert merged_folder(NANO_FOLDER, adapters["experts"]).is_dir()


def test_several_are_refused_if_one_must_be_merged(adapters: dict[str, Path], cache: Path) -> None:
    chosen = {name: adapters[name] for name in ("plain", "experts")}
    with pytest.raises(SettingsError, match="'experts' acts on model") as caught:
        place_adapters(NANO_FOLDER, "nano", chosen)
    assert "--engine native" in str(caught.value.mend)
    assert not cache.exists()


def test_an_adapter_for_another_base_is_refused(adapters: dict[str, Path], tmp_path: Path) -> None:
    other = load_model("nano")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    save_model(other, tmp_path)
    with pytest.raises(AdapterError, match="made for another base"):
        place_adapters(tmp_path, "other", {"plain": adapters["plain"]})


def test_a_run_folder_stands_for_its_adapter(adapters: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(adapters["plain"], tmp_path / "run" / "adapter")
    assert adapter_folder(tmp_path / "run") == tmp_path / "run" / "adapter"
    assert adapter_folder(tmp_path / "run" / "adapter") == tmp_path / "run" / "adapter"
    with pytest.raises(AdapterError, match="no adapter in"):
        adapter_folder(tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OCRSMITH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ocrsmith" / "merged"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "ocrsmith" / "merged"
