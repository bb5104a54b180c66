"""Merging from file to file gives what the adapter says, for every tensor, in little memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from ocrsmith.errors import AdapterError, SettingsError, WeightsError
from ocrsmith.export.merge import Merge
from ocrsmith.model.lora import add_lora, load_adapter, save_adapter
from ocrsmith.model.weights import NANO_FOLDER, load_model, save_model
from ocrsmith.settings.lora import LoraSettings, LoraTarget


def make_adapter(
    folder: Path, base: str = "nano", *, scale: float = 0.02, quantization: Literal["none", "nf4"] = "none"
) -> Path:
    """An adapter on every kind of layer, with an alpha that is not its rank."""
    targets: tuple[LoraTarget, ...] = ("attention", "dense_mlp", "shared_experts", "routed_experts")
    network = load_model(base, quantization=quantization)
    model = add_lora(network, LoraSettings(r=4, alpha=12, targets=targets))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    save_adapter(model, folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter") / "adapter")


def test_each_merged_matrix_is_the_sum_rounded_once(adapter: Path, tmp_path: Path) -> None:
    merge = Merge.plan(NANO_FOLDER, adapter)
    told: list[tuple[int, int]] = []
    assert merge.write(tmp_path, progress=lambda done, total: told.append((done, total))) is torch.bfloat16
    base, merged = load_file(NANO_FOLDER / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    pairs = load_file(adapter / "adapter_model.safetensors")
    assert merged.keys() == base.keys()
    changed = set()
    for name, weight in base.items():
        key = f"base_model.model.{name.removesuffix('.weight')}"
        expected = weight
        if f"{key}.lora_A.weight" in pairs:
            a, b = pairs[f"{key}.lora_A.weight"].double(), pairs[f"{key}.lora_B.weight"].double()
            expected = (weight.double() + 3.0 * (b @ a)).to(torch.bfloat16)
            changed.add(name)
        assert merged[name].dtype == torch.bfloat16
        torch.testing.assert_close(merged[name], expected, rtol=2**-7, atol=1e-7)  # one unit in the last place
    assert changed == set(merge.changed)
    assert any(".experts." in name for name in changed)
    assert told[-1] == (len(base), len(base))


def test_the_merged_model_reads_as_the_adapter_does(adapter: Path, tmp_path: Path) -> None:
    Merge.plan(NANO_FOLDER, adapter).write(tmp_path)
    merged = load_model(str(tmp_path))
    expected = load_adapter(load_model("nano"), adapter).merge_and_unload()
    ids = torch.arange(40)[None]
    with torch.no_grad():
        ours, theirs = (model(input_ids=ids).logits for model in (merged, expected))
    base = load_model("nano")(input_ids=ids).logits
    assert (ours - theirs).norm() < 0.04 * (base - theirs).norm()  # what 16 bits round away


def test_an_adapter_of_a_quantised_base_merges_into_the_original(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", quantization="nf4")
    Merge.plan(NANO_FOLDER, adapter).write(tmp_path)
    base, merged = load_file(NANO_FOLDER / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    pairs = load_file(adapter / "adapter_model.safetensors")
    a, b = (
        pairs[f"base_model.model.model.layers.1.mlp.experts.3.up_proj.lora_{side}.weight"].double()
        for side in "AB"
    )
    torch.testing.assert_close(merged[name].double(), base[name].double() + 3 * (b @ a), rtol=2**-7, atol=1e-4)


def test_without_an_adapter_the_base_is_copied(tmp_path: Path) -> None:
    merge = Merge.plan(NANO_FOLDER, None)
    merge.write(tmp_path)
    base, written = load_file(NANO_FOLDER / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(written[name], weight) for name, weight in base.items())
    assert merge.changed == ()


def test_large_models_come_in_shards(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocrsmith.model.weights.MAX_SHARD_BYTES", 8 * 2**20)
    for name in ("whole", "shards"):
        (tmp_path / name).mkdir()
    Merge.plan(NANO_FOLDER, adapter).write(tmp_path / "shards")
    monkeypatch.undo()
    Merge.plan(NANO_FOLDER, adapter).write(tmp_path / "whole")
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) > 2
    whole, shards = (load_model(str(tmp_path / name)).state_dict() for name in ("whole", "shards"))
    assert all(torch.equal(shards[name], tensor) for name, tensor in whole.items())


def test_the_dtype_may_be_chosen(adapter: Path, tmp_path: Path) -> None:
    assert Merge.plan(NANO_FOLDER, adapter).write(tmp_path, dtype="float16") is torch.float16
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
    with pytest.raises(SettingsError, match="int8"):
        Merge.plan(NANO_FOLDER, adapter).write(tmp_path, dtype="int8")


def test_an_adapter_of_another_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = load_model("nano")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    save_model(other, tmp_path / "other")
    with pytest.raises(AdapterError, match="another base"):
        Merge.plan(tmp_path / "other", adapter)


def test_a_base_that_is_none_is_refused(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no config\.json"):
        Merge.plan(tmp_path, adapter)


@pytest.mark.parametrize(
    ("scale", "dtype", "error"), [(1e30, "auto", AdapterError), (300, "float16", SettingsError)]
)
def test_weights_that_are_no_numbers_stop_the_merge(
    tmp_path: Path, scale: float, dtype: str, error: type[Exception]
) -> None:
    adapter = make_adapter(tmp_path / "adapter", scale=scale)
    with pytest.raises(error, match=r"model\.layers"):
        Merge.plan(NANO_FOLDER, adapter).write(tmp_path, dtype=dtype)


def test_a_base_with_a_broken_weight_is_named(adapter: Path, tmp_path: Path) -> None:
    tensors = load_file(NANO_FOLDER / "model.safetensors")
    tensors["lm_head.weight"][3, 5] = float("nan")
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((NANO_FOLDER / "config.json").read_bytes())
    (tmp_path / "out").mkdir()
    with pytest.raises(WeightsError, match=r"lm_head\.weight is not finite"):
        Merge.plan(tmp_path, None).write(tmp_path / "out")
