"""Checkpoints: hub names in and out, bit by bit, without holding the weights twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import ocrsmith.model.weights
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.weights import HubName, hub_tensors, load_model, save_model, stored_tensors

from ..parity.tiny import original_config_values, tiny_config_values, tiny_model

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def shapes_of(values: dict[str, object]) -> dict[str, tuple[int, ...]]:
    """Hub names → shapes of a model with this config, without memory for its weights."""
    with torch.device("meta"):
        model = OcrModel(OcrConfig.from_dict(values))
    return {name: tuple(tensor.shape) for name, tensor in hub_tensors(model.state_dict())}


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Any bit pattern, also infinities, negative zeros and every kind of NaN."""
    width = dtype.itemsize
    flat = torch.randint(0, 256, (int(torch.tensor(shape).prod()) * width,), generator=generator)
    return flat.to(torch.uint8).view(dtype).view(shape)


def write_hub_folder(folder: Path, dtype: torch.dtype = torch.bfloat16, shards: int = 1) -> dict[str, Tensor]:
    """A tiny checkpoint as the hub has it, written by the safetensors library; every bit random."""
    generator = torch.Generator().manual_seed(7)
    tensors = {
        name: random_bits(shape, dtype, generator) for name, shape in shapes_of(tiny_config_values()).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(tiny_config_values()))
    if shards == 1:
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
        return tensors
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:06}.safetensors"  # the hub's file is spelled so
        names = sorted(tensors)[shard::shards]
        save_file({name: tensors[name] for name in names}, folder / file)
        weight_map.update(dict.fromkeys(names, file))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return tensors


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def assert_bit_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert actual[name].shape == tensor.shape, name
        assert torch.equal(bits(actual[name]), bits(tensor)), name


# --- names -------------------------------------------------------------------------------------------------


def test_names_and_shapes_are_those_of_the_original_checkpoint(golden: Path) -> None:
    recorded = json.loads((golden / "key_names.json").read_text())
    actual = shapes_of(original_config_values())
    assert actual == {name: tuple(shape) for name, shape in recorded["shapes"].items()}
    assert recorded["manifest"]["parameters_from_shapes"] == 3_336_106_240


def test_the_original_has_2710_tensors_and_3336106240_parameters() -> None:
    values = original_config_values()
    assert len(shapes_of(values)) == 2710
    with torch.device("meta"):
        model = OcrModel(OcrConfig.from_dict(values))
    assert sum(p.numel() for p in model.parameters()) == 3_336_106_240
    assert not list(model.buffers())
    assert len(list(model.parameters())) == 2710 - 11 * 64 * 3 + 11 * 3  # experts fused


@pytest.mark.parametrize(
    ("name", "parameter", "expert"),
    [
        ("model.layers.3.mlp.experts.17.down_proj.weight", "model.layers.3.mlp.experts.down_proj", 17),
        ("model.layers.1.mlp.gate.weight", None, None),
        (
            "model.layers.1.mlp.shared_experts.up_proj.weight",
            "model.layers.1.mlp.shared_experts.up_proj.weight",
            None,
        ),
        ("model.layers.0.mlp.gate_proj.weight", None, None),
        ("model.view_seperator", None, None),
    ],
)
def test_a_hub_name_says_where_its_tensor_lives(name: str, parameter: str | None, expert: int | None) -> None:
    assert HubName.parse(name) == HubName(parameter or name, expert)


def test_the_names_are_one_to_one_in_both_directions() -> None:
    state = tiny_model().state_dict()
    for name, tensor in hub_tensors(state):
        place = HubName.parse(name)
        assert place.of(state[place.parameter]).data_ptr() == tensor.data_ptr()
    assert {HubName.parse(name).parameter for name, _ in hub_tensors(state)} == set(state)


# --- round trip --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("shards", [1, 3])
def test_round_trip_is_bit_equal(dtype: torch.dtype, shards: int, tmp_path: Path) -> None:
    written = write_hub_folder(tmp_path / "hub", dtype, shards)
    save_model(load_model(str(tmp_path / "hub"), dtype=dtype), tmp_path / "again")
    assert_bit_equal(load_file(tmp_path / "again" / SINGLE), written)
    with safe_open(tmp_path / "again" / SINGLE, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_round_trip_of_the_recorded_checkpoint_is_bit_equal(golden: Path, tmp_path: Path) -> None:
    save_model(load_model(str(golden / "tiny_checkpoint")), tmp_path)
    assert_bit_equal(load_file(tmp_path / SINGLE), load_file(golden / "tiny_checkpoint" / SINGLE))


def test_experts_are_stacked_in_order(tmp_path: Path) -> None:
    written = write_hub_folder(tmp_path)
    state = load_model(str(tmp_path), dtype=torch.bfloat16).state_dict()
    for projection in ("gate_proj", "up_proj", "down_proj"):
        stem = "model.layers.2.mlp.experts"
        expected = torch.stack([written[f"{stem}.{expert}.{projection}.weight"] for expert in range(5)])
        assert torch.equal(bits(state[f"{stem}.{projection}"]), bits(expected))


def test_weights_are_converted_to_the_wanted_dtype(tmp_path: Path) -> None:
    model = tiny_model()
    save_model(model.bfloat16(), tmp_path)
    loaded = load_model(str(tmp_path))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.float())


def test_large_models_are_sharded_with_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocrsmith.model.weights, "MAX_SHARD_BYTES", 60_000)
    model = tiny_model()
    save_model(model, tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) >= 3
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    loaded = {}
    for file in files:
        tensors = load_file(tmp_path / file)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 60_000
        assert {index["weight_map"][name] for name in tensors} == {file}
        loaded |= tensors
    assert_bit_equal(loaded, dict(hub_tensors(model.state_dict())))
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in loaded.values())
    assert_bit_equal(load_model(str(tmp_path)).state_dict(), model.state_dict())


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("after", ["one file", "shards"])
def test_saving_over_another_checkpoint_leaves_nothing_of_it(
    before: int, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hub_folder(tmp_path, shards=before)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_text("of another tool")
    if after == "shards":
        monkeypatch.setattr(ocrsmith.model.weights, "MAX_SHARD_BYTES", 100_000)
    model = tiny_model()
    save_model(model, tmp_path)
    assert_bit_equal(load_model(str(tmp_path)).state_dict(), model.state_dict())
    used = {stored.file.name for stored in stored_tensors(tmp_path).values()}
    others = {"config.json", "generation_config.json", "tokenizer.json", "adapter_model.safetensors"}
    if after == "shards":
        others.add(INDEX)
    assert {file.name for file in tmp_path.iterdir()} == used | others


def test_other_safetensors_beside_the_model_are_not_taken_for_it(tmp_path: Path) -> None:
    written = write_hub_folder(tmp_path)
    save_file({"base_model.model.lora_A.weight": torch.zeros(2)}, tmp_path / "adapter_model.safetensors")
    assert set(stored_tensors(tmp_path)) == set(written)


def test_the_saved_config_is_the_hub_s_without_remote_code(tmp_path: Path) -> None:
    write_hub_folder(tmp_path / "hub")
    save_model(load_model(str(tmp_path / "hub"), dtype=torch.bfloat16), tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    original = tiny_config_values()
    assert written["architectures"] == ["DeepseekOCRForCausalLM"]
    assert written["model_type"] == "deepseek_vl_v2"
    assert "auto_map" not in written
    for key in ("language_config", "vision_config", "projector_config", "tile_tag", "image_token_id"):
        assert written[key] == original[key]
    assert written["dtype"] == "bfloat16"


def test_a_loaded_model_is_ready_to_generate(tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path)
    model = load_model(str(tmp_path))
    assert not model.training
    assert model.generation_config is not None
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (1, 2)
    assert not model.model.vision_model.embeddings.patch_embedding.weight.requires_grad  # never used
    assert model.model.sam_model.pos_embed.requires_grad


# --- memory ------------------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path
import torch
from ocrsmith.model.weights import load_model, save_model

def memory(kind):  # bytes
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024

load_model(sys.argv[1])  # what the first call imports is not the weights' memory
before = memory("VmRSS")
model = load_model(sys.argv[2], dtype=torch.bfloat16)
loaded = memory("VmHWM") - before
save_model(model, sys.argv[3])
saved = memory("VmHWM") - before
size = sum(p.numel() for p in model.parameters())
del model
before = memory("VmRSS")
load_model(sys.argv[2], dtype=torch.float32)
print(loaded / (2 * size), saved / (2 * size), (memory("VmHWM") - before) / (4 * size))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status, which Linux has")
def test_loading_and_saving_stay_within_a_fifth_of_the_weights(tmp_path: Path) -> None:
    values = tiny_config_values()
    values["language_config"].update(
        vocab_size=30000,
        hidden_size=1024,
        moe_intermediate_size=512,
        n_routed_experts=24,
        intermediate_size=2048,
    )
    header, offset = {}, 0
    for name, shape in shapes_of(values).items():
        size = 2 * int(torch.tensor(shape).prod())
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    assert offset > 280e6
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    encoded = json.dumps(header).encode()
    with (folder / SINGLE).open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        file.truncate(8 + len(encoded) + offset)  # zeros that take no disk
    write_hub_folder(tmp_path / "tiny")
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "tiny", folder, tmp_path / "again"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    loaded, saved, converted = map(float, run.stdout.split())
    assert 0.9 < loaded <= 1.2
    assert saved <= 1.2
    assert 0.9 < converted <= 1.2
