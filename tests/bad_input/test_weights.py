"""Broken, foreign and unwritable model folders: one clear message each, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import ocrsmith.model.weights
from ocrsmith.errors import OcrsmithError, OutputError, WeightsError
from ocrsmith.model.weights import load_model, resolve_model, save_model

from ..parity.tiny import tiny_config_values, tiny_model

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder in order."""
    save_model(tiny_model(), tmp_path / "model")
    return tmp_path / "model"


def refusal(action: Callable[[], object], kind: type[OcrsmithError] = WeightsError) -> OcrsmithError:
    """The error that a user sees: with place and mend, and exit code 2."""
    with pytest.raises(kind) as caught:
        action()
    error = caught.value
    assert error.place
    assert error.mend
    assert error.exit_code == 2
    assert "\n" not in error.problem
    return error


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / SINGLE)
    change(tensors)
    save_file(tensors, folder / SINGLE)


def change_config(folder: Path, **changes: Any) -> None:
    values = json.loads((folder / "config.json").read_text())
    values["language_config"].update(changes)
    (folder / "config.json").write_text(json.dumps(values))


# --- tensors that do not fit the config --------------------------------------------------------------------


def test_missing_tensors_are_listed(folder: Path) -> None:
    change_tensors(
        folder, lambda tensors: [tensors.pop(name) for name in ("model.norm.weight", "lm_head.weight")]
    )
    error = refusal(lambda: load_model(str(folder)))
    assert error.problem == ("The weights do not fit the config. 2 missing: lm_head.weight, model.norm.weight.")
    assert error.place == str(folder)


def test_unexpected_tensors_are_listed(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"model.extra": torch.zeros(1)}))
    assert "1 unexpected: model.extra." in refusal(lambda: load_model(str(folder))).problem


def test_misshaped_tensors_are_listed_with_both_shapes(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(31)}))
    error = refusal(lambda: load_model(str(folder)))
    assert "1 misshaped: model.norm.weight (31,) (config says (32,))." in error.problem


def test_a_missing_expert_is_named_as_the_hub_names_it(folder: Path) -> None:
    name = "model.layers.1.mlp.experts.4.up_proj.weight"
    change_tensors(folder, lambda tensors: tensors.pop(name))
    assert f"1 missing: {name}." in refusal(lambda: load_model(str(folder))).problem


def test_a_long_list_is_cut(folder: Path) -> None:
    change_config(folder, num_hidden_layers=5)
    error = refusal(lambda: load_model(str(folder)))
    assert "missing: model.layers.3.input_layernorm.weight" in error.problem
    assert error.problem.endswith("….")
    assert len(error.problem) < 900


@pytest.mark.parametrize(
    "changes",
    [
        {"n_routed_experts": 7},
        {"vocab_size": 1_000_000_000_000},  # would not fit into memory: told before it is asked for
        {"moe_intermediate_size": 8},
        {"n_shared_experts": 1},
        {"first_k_dense_replace": 0},
        {"num_hidden_layers": 2},
    ],
    ids=str,
)
def test_a_config_that_contradicts_the_weights(changes: dict[str, int], folder: Path) -> None:
    change_config(folder, **changes)
    error = refusal(lambda: load_model(str(folder)))
    assert error.problem.startswith("The weights do not fit the config. ")
    assert error.mend == "use the config.json that belongs to these weights"


def test_a_config_that_contradicts_itself(folder: Path) -> None:
    change_config(folder, num_attention_heads=5)
    error = refusal(lambda: load_model(str(folder)))
    assert "hidden_size 32 is not a multiple of its 5 heads" in error.problem
    assert error.place == str(folder / "config.json")


# --- files that are not what their names say ---------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 50, 20_000, -1])
def test_truncated_weights(kept: int, folder: Path) -> None:
    file = folder / SINGLE
    file.write_bytes(file.read_bytes()[:kept])
    error = refusal(lambda: load_model(str(folder)))
    assert error.place == str(file)
    assert error.mend == "download the file again; it is not a complete safetensors file"


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 6672547120\n",
        b"<!doctype html><title>404</title>",
        (4).to_bytes(8, "little") + b"nope",
        (2).to_bytes(8, "little") + b"[]" + b"x",
        (4).to_bytes(8, "little") + b"[[]]",
        (10).to_bytes(8, "little") + b'{"a": 1}  ',
        b"\xff" * 64,
    ],
    ids=["git lfs pointer", "web page", "no json", "list", "nested list", "number for a tensor", "ones"],
)
def test_files_that_are_not_safetensors(content: bytes, folder: Path) -> None:
    (folder / SINGLE).write_bytes(content)
    error = refusal(lambda: load_model(str(folder)))
    assert SINGLE in error.problem or "missing" in error.problem


def test_a_header_that_gives_a_tensor_too_few_bytes(folder: Path) -> None:
    header = {"lm_head.weight": {"dtype": "F32", "shape": [96, 32], "data_offsets": [0, 16]}}
    encoded = json.dumps(header).encode()
    (folder / SINGLE).write_bytes(len(encoded).to_bytes(8, "little") + encoded + b"0" * 16)
    problem = refusal(lambda: load_model(str(folder))).problem
    assert "gives lm_head.weight 16 bytes, which is not its shape (96, 32) in F32" in problem


def test_quantised_weights(folder: Path) -> None:
    change_tensors(
        folder,
        lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"].to(torch.float8_e4m3fn)}),
    )
    error = refusal(lambda: load_model(str(folder)))
    assert error.problem == "lm_head.weight is stored as F8_E4M3, which is not supported."
    assert "bfloat16" in str(error.mend)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 6000), byte=st.integers(0, 255))
def test_a_damaged_header_never_ends_in_a_traceback(at: int, byte: int, folder: Path) -> None:
    file = folder / SINGLE
    content = bytearray(file.read_bytes())
    before = content[at]
    content[at] = byte
    file.write_bytes(content)
    try:
        load_model(str(folder))
    except WeightsError:
        pass
    finally:
        content[at] = before
        file.write_bytes(content)


def test_weights_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    error = refusal(lambda: ocrsmith.model.weights.load_model(str(folder)))
    assert "Permission denied" in error.problem
    assert "model" in str(error.place)


# --- folders -----------------------------------------------------------------------------------------------


def test_an_empty_folder(tmp_path: Path) -> None:
    error = refusal(lambda: load_model(str(tmp_path)))
    assert error.problem == f"{tmp_path} has no config.json."
    assert error.mend == "give a model folder in hub layout"


def test_a_folder_without_weights_says_what_it_found(folder: Path) -> None:
    (folder / SINGLE).unlink()
    error = refusal(lambda: load_model(str(folder)))
    assert "No *.safetensors file in" in error.problem
    assert "(found: config.json, generation_config.json)" in error.problem


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    error = refusal(lambda: load_model(str(folder / SINGLE)))
    assert "is a file, not a model folder" in error.problem


@pytest.mark.parametrize("name", ["nosuchmodel", "a/b/c", "./nosuch", "../no/such", "~/nosuch", ""])
def test_a_name_that_is_nothing(name: str) -> None:
    error = refusal(lambda: resolve_model(name) if name else load_model("no such"))
    assert "it is no folder and no hub id" in error.problem
    assert '"nano"' in str(error.mend)


def test_a_hub_id_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    error = refusal(lambda: load_model("deepseek-ai/DeepSeek-OCR"))
    assert error.problem == (
        "The model 'deepseek-ai/DeepSeek-OCR' could not be fetched from the hub (ConnectionError)."
    )
    assert "network" in str(error.mend)


def test_a_hub_id_that_is_not_in_the_cache_while_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "could not be fetched" in refusal(lambda: load_model("nobody-here/no-model")).problem


def test_an_index_that_names_a_file_that_is_not_there(folder: Path) -> None:
    (folder / SINGLE).unlink()
    (folder / INDEX).write_text(
        json.dumps({"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}})
    )
    error = refusal(lambda: load_model(str(folder)))
    assert error.problem == "The index names model-00001-of-00002.safetensors, which is not there."


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": []}', "null"])
def test_a_broken_index(content: str, folder: Path) -> None:
    (folder / SINGLE).rename(folder / "model-00001-of-00001.safetensors")
    (folder / INDEX).write_text(content)
    error = refusal(lambda: load_model(str(folder)))
    assert f"{INDEX} is not an index of shards" in error.problem


def test_two_sets_of_weights_in_one_folder(folder: Path) -> None:
    content = (folder / SINGLE).read_bytes()
    (folder / SINGLE).unlink()
    for name in ("model-00001-of-00001.safetensors", "weights.safetensors"):
        (folder / name).write_bytes(content)
    error = refusal(lambda: load_model(str(folder)))
    assert "weights.safetensors holds" in error.problem
    assert "that model-00001-of-00001.safetensors holds too" in error.problem


# --- configs of other models -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as a model's config: Expecting value"),
        ("{", "cannot be read as a model's config"),
        ("[]", "it is not a JSON object"),
        ('{"model_type": "llama"}', "describes a 'llama', not a DeepSeek-OCR model"),
        ("{}", "not a DeepSeek-OCR model"),
        ('{"language_config": 3, "vision_config": 4}', "cannot be read as a model's config"),
        ('{"language_config": {}, "vision_config": {"width": {"sam_vit_b": 3}}}', "cannot be read"),
        ('{"language_config": {"use_mla": true}, "vision_config": {}}', "multi-head latent attention"),
        (
            '{"language_config": {}, "vision_config": {}, "projector_config": {"projector_type": "mlp_gelu"}}',
            "projector_type 'mlp_gelu' is not supported (linear is)",
        ),
        (
            '{"language_config": {}, "vision_config": {}, "image_token_id": 999999}',
            "image_token_id 999999 is outside the vocabulary of 129280",
        ),
    ],
)
def test_a_foreign_or_broken_config(content: str, message: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    error = refusal(lambda: load_model(str(folder)))
    assert message in error.problem
    assert error.place == str(folder / "config.json")


# --- writing -----------------------------------------------------------------------------------------------


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("where", ["weights", "replace"])
def test_a_full_disk_leaves_the_old_model_as_it_was(
    where: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(folder)

    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "replace":
        monkeypatch.setattr(os, "replace", full)
    else:
        real = ocrsmith.model.weights.stream_safetensors

        def half(file: Path, plans: list[Any], tensor_of: Any) -> None:
            real(file, plans[:3], tensor_of)
            full()

        monkeypatch.setattr(ocrsmith.model.weights, "stream_safetensors", half)
    error = refusal(lambda: save_model(tiny_model(seed=1), folder), OutputError)
    assert error.problem == "The model could not be written: No space left on device."
    assert error.place == str(folder)
    assert "free disk space" in str(error.mend)
    assert files_of(folder) == before
    assert not [path for path in folder.iterdir() if path.is_dir()]


def test_an_interruption_leaves_the_old_model_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files_of(folder)

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ocrsmith.model.weights, "stream_safetensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(tiny_model(seed=1), folder)
    assert files_of(folder) == before


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: Any, **kwargs: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ocrsmith.model.weights.tempfile, "mkdtemp", denied)
    error = refusal(lambda: save_model(tiny_model(), tmp_path), OutputError)
    assert error.problem == "The model could not be written: Permission denied."
    assert "choose a folder you may write to" in str(error.mend)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a letter")
    for target in (tmp_path / "taken", tmp_path / "taken" / "below"):
        refusal(lambda target=target: save_model(tiny_model(), target), OutputError)
    assert (tmp_path / "taken").read_text() == "a letter"


def test_the_folder_in_these_tests_is_sound(folder: Path) -> None:
    assert load_model(str(folder)).config.decoder_sizes.vocab_size == 96
    assert (
        json.loads((folder / "config.json").read_text())["language_config"]
        == tiny_config_values()["language_config"]
    )
