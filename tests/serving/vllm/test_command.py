"""vLLM's command line, and what a model folder must be before it is started."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ocrsmith.errors import InputError, MissingExtraError, OcrsmithError, SettingsError, WeightsError
from ocrsmith.model.weights import NANO_FOLDER, load_processor
from ocrsmith.serving.vllm.command import (
    check_texts,
    check_weights,
    shell_line,
    vllm_command,
    vllm_environment,
    vllm_version,
)
from ocrsmith.serving.vllm.opening import plan_vllm


def after(command: list[str], flag: str) -> list[str]:
    """The words after a flag, up to the next one."""
    assert command.count(flag) == 1
    words = command[command.index(flag) + 1 :]
    end = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    return words[:end]


def value(command: list[str], flag: str) -> str:
    (found,) = after(command, flag)
    return found


class TestCommand:
    def test_the_server_reads_as_the_model_was_trained(self) -> None:
        command = vllm_command("/m", name="ocr", context=8192, batch_size=7)
        assert command[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        assert value(command, "--model") == value(command, "--tokenizer") == "/m"
        assert value(command, "--served-model-name") == "ocr"
        assert value(command, "--logits-processors").endswith(":NGramPerReqLogitsProcessor")
        assert json.loads(value(command, "--limit-mm-per-prompt")) == {"image": 1}
        assert json.loads(value(command, "--hf-overrides")) == {"architectures": ["DeepseekOCRForCausalLM"]}
        assert json.loads(value(command, "--override-generation-config")) == {"temperature": 0.0}
        assert value(command, "--generation-config") == "vllm"
        assert (value(command, "--max-model-len"), value(command, "--max-num-seqs")) == ("8192", "7")
        assert value(command, "--mm-processor-cache-gb") == "0"
        assert value(command, "--load-format") == "safetensors"
        for flag in ("--no-enable-prefix-caching", "--no-trust-remote-code", "--no-enforce-eager"):
            assert after(command, flag) == []
        assert "--gpu-memory-utilization" not in command
        assert "--enable-lora" not in command

    def test_it_is_for_this_machine_and_logs_no_texts(self) -> None:
        command = vllm_command("/m", name="ocr", context=8192)
        assert (value(command, "--host"), value(command, "--port")) == ("127.0.0.1", "8000")
        assert after(command, "--no-enable-log-requests") == []
        assert after(command, "--disable-uvicorn-access-log") == []
        assert value(command, "--allowed-media-domains").endswith(".invalid")
        allowed = vllm_command("/m", name="ocr", context=8192, image_hosts=["a.org", "b.org"])
        assert after(allowed, "--allowed-media-domains") == ["a.org", "b.org"]
        own = vllm_command("/m", name="ocr", context=8192, socket=Path("/run/x.sock"))
        assert value(own, "--uds") == "/run/x.sock"
        assert "--port" not in own
        assert "--host" not in own

    @pytest.mark.parametrize(("rank", "room"), [(1, "1"), (4, "8"), (16, "16"), (33, "64"), (512, "512")])
    def test_adapters_get_room_for_their_rank(self, rank: int, room: str) -> None:
        adapters = {"a": Path("/x=1/a b"), "b": Path("/b")}
        command = vllm_command("/m", name="ocr", context=8192, adapters=adapters, rank=rank)
        assert after(command, "--enable-lora") == []
        assert (value(command, "--max-lora-rank"), value(command, "--max-loras")) == (room, "2")
        first, _ = map(json.loads, after(command, "--lora-modules"))
        assert first == {"name": "a", "path": "/x=1/a b", "base_model_name": "ocr"}

    def test_a_rank_without_room_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="rank 513"):
            vllm_command("/m", name="ocr", context=8192, adapters={"a": Path("/a")}, rank=513)

    def test_a_shell_takes_the_line_back_into_the_same_words(self) -> None:
        command = vllm_command("/my models/'x'", name="ocr", context=8192)
        program = "import sys, json; print(json.dumps(sys.argv[1:]))"
        line = shell_line([sys.executable, "-c", program, *command[3:]])
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == command[3:]

    def test_a_key_in_the_environment_is_not_vllms(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VLLM_API_KEY", "secret")
        monkeypatch.setenv("OTHER", "kept")
        environment = vllm_environment()
        assert "VLLM_API_KEY" not in environment
        assert environment["OTHER"] == "kept"
        assert environment["VLLM_NO_USAGE_STATS"] == environment["PYTHONSAFEPATH"] == "1"


class TestVersion:
    def fake(self, folder: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
        (folder / "vllm").mkdir()
        (folder / "vllm" / "__init__.py").write_text("raise SystemExit('vLLM was loaded')")
        info = folder / f"vllm_gpu-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm-gpu\nVersion: {version}\n")
        (info / "RECORD").write_text("vllm/__init__.py,,\n")
        monkeypatch.syspath_prepend(str(folder))

    def test_it_is_found_without_loading_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fake(tmp_path, monkeypatch, "0.33.1")
        assert vllm_version() == "0.33.1"

    def test_an_old_one_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fake(tmp_path, monkeypatch, "0.13.0")
        with pytest.raises(SettingsError, match=r"0\.13\.0 is too old"):
            vllm_version()

    def test_none_is_told_with_a_way_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "vllm", None)
        with pytest.raises(MissingExtraError) as caught:
            vllm_version()
        assert "--engine native" in str(caught.value.mend)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All that is looked at: config of the published encoder, headers of weights, a tokenizer with bos rule."""
    folder = tmp_path / "model"
    load_processor("nano").save_pretrained(folder)
    values = {"language_config": {"vocab_size": 7640}, "vision_config": {}, "projector_config": {}}
    (folder / "config.json").write_text(json.dumps({**values, "image_token_id": 7628}))
    save_file({"lm_head.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    edit(folder / "tokenizer.json", with_bos)
    return folder


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def with_bos(rules: dict[str, Any]) -> None:
    bos = "<｜begin▁of▁sentence｜>"
    rules["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {bos: {"id": bos, "ids": [0], "tokens": [bos]}},
    }


class TestFolder:
    def test_a_whitelist_of_unknown_tokens_shows_before_anything_is_started(self, folder: Path) -> None:
        (folder / "ocrsmith_decoding.json").write_text('{"ngram_whitelist": ["<no>"]}')
        with pytest.raises(SettingsError, match="<no>"):
            plan_vllm(str(folder), installed=False)

    def test_clients_may_name_the_whitelist_by_its_ids(self, folder: Path) -> None:
        (model,) = plan_vllm(str(folder), installed=False).models
        vocabulary = load_processor(str(folder)).tokenizer.get_vocab()
        assert model.whitelist_ids == (vocabulary["<td>"], vocabulary["</td>"])

    def test_a_whole_one_passes(self, folder: Path) -> None:
        assert check_weights(folder).decoder_sizes.max_position_embeddings > 0
        check_texts(folder)

    @pytest.mark.parametrize(
        ("name", "problem"),
        [("config.json", "no config.json"), ("model.safetensors", r"No \*\.safetensors")],
    )
    def test_what_is_no_model_is_told(self, folder: Path, name: str, problem: str) -> None:
        (folder / name).unlink()
        with pytest.raises(WeightsError, match=problem):
            check_weights(folder)

    def test_missing_tokenizer_files_are_told(self, folder: Path) -> None:
        (folder / "tokenizer_config.json").unlink()
        with pytest.raises(InputError, match="no tokenizer_config"):
            check_weights(folder)

    def test_weights_that_are_cut_off_are_told(self, folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(WeightsError, match="ends inside"):
            check_weights(folder)

    def test_pickled_weights_are_refused(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
        with pytest.raises(WeightsError, match="pickled"):
            check_weights(folder)

    def test_weights_in_four_bits_pass(self, folder: Path) -> None:
        packed = {"layer.weight_packed": torch.zeros(2, 2, dtype=torch.int32)}
        save_file(packed, folder / "model.safetensors")
        edit(folder / "config.json", lambda values: values.update(quantization_config={"quant_method": "x"}))
        check_weights(folder)

    def test_another_encoder_is_refused(self) -> None:
        with pytest.raises(InputError, match="published sizes") as caught:
            check_weights(NANO_FOLDER)
        assert "--engine native" in str(caught.value.mend)

    def test_code_and_a_missing_bos_rule_are_told_with_the_mend(self, folder: Path) -> None:
        edit(folder / "tokenizer.json", lambda values: values.update(post_processor=None))
        edit(folder / "config.json", lambda values: values.update(auto_map={"AutoModel": "code.Model"}))
        with pytest.raises(OcrsmithError, match=r"auto_map.*no rule that begins a text with bos") as caught:
            check_texts(folder)
        assert caught.value.mend == f"Run `ocrsmith export {shlex.quote(str(folder))} -o NEW`, and serve NEW."
