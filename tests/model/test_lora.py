"""LoRA on the whole decoder: numbers against plain PEFT on per-expert linears, files, merging, bad adapters."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ocrsmith.errors import AdapterError
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.experts import GroupedExperts
from ocrsmith.model.lora import add_lora, load_adapter, merge_adapter, reload_adapter, save_adapter
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.settings import LoraSettings

from .test_ocr_model import waits_of

VISION = {
    "image_size": 64,
    "width": {
        "sam_vit_b": {
            "width": 16,
            "layers": 1,
            "heads": 2,
            "global_attn_indexes": [0],
            "downsample_channels": [16, 16],
            "out_chans": 8,
            "window_size": 2,
        },
        "clip-l-14-224": {"width": 16, "layers": 1, "heads": 2, "image_size": 28},
    },
}
LANGUAGE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 24,
    "moe_intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "max_position_embeddings": 256,
}
EVERY_PROJECTION = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def tiny_model(seed: int = 0, **language) -> OcrModel:
    torch.manual_seed(seed)
    model = OcrModel(OcrConfig(language_config={**LANGUAGE, **language}, vision_config=VISION)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


def ids(seed: int = 1) -> Tensor:
    return torch.randint(3, 59, (2, 11), generator=torch.Generator().manual_seed(seed))


def randomise(model: nn.Module, seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


class PerExpert(nn.ModuleList):
    """The routed experts as the hub's code names them: a module with three linears per expert, looped over."""

    def __init__(self, experts: GroupedExperts) -> None:
        super().__init__()
        for e in range(experts.gate_proj.shape[0]):
            expert = nn.Module()
            for name in ("gate_proj", "up_proj", "down_proj"):
                weight = getattr(experts, name)[e]
                linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
                linear.weight = nn.Parameter(weight.detach().clone())
                setattr(expert, name, linear)
            self.append(expert)

    def forward(self, x: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for n in range(x.shape[0]):
            for index, weight in zip(indices[n].tolist(), weights[n], strict=True):
                expert = self[index]
                row = x[n : n + 1]
                inner = F.silu(expert.gate_proj(row)) * expert.up_proj(row)
                out[n] = out[n] + weight * expert.down_proj(inner)[0]
        return out


def reference_model(model: OcrModel) -> OcrModel:
    """The same weights with a linear per expert, which plain PEFT can adapt."""
    reference = copy.deepcopy(model)
    for layer in reference.model.layers:
        if hasattr(layer.mlp, "experts"):
            layer.mlp.experts = PerExpert(layer.mlp.experts)
    return reference


def plain_peft(model: OcrModel, folder: Path, **options) -> tuple[PeftModel, Tensor]:
    """An adapter with random A and B made by PEFT alone, saved; and what the adapted reference answers."""
    config = LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": EVERY_PROJECTION, **options})
    peft_model = get_peft_model(reference_model(model), config).eval()
    randomise(peft_model)
    peft_model.save_pretrained(folder)
    return peft_model, peft_model(input_ids=ids()).logits.detach()


def test_fresh_adapter_changes_nothing_and_only_it_is_trained():
    model = tiny_model()
    before = model(input_ids=ids()).logits
    adapted = add_lora(model, LoraSettings(r=4)).eval()
    assert torch.equal(adapted(input_ids=ids()).logits, before)
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    # by hand, r (in + out) per matrix: 3 attentions, 1 dense MLP, 2 shared and 2 x 4 routed experts
    attention = 3 * 4 * 4 * (32 + 32)
    dense, shared, routed = (3 * 4 * (32 + width) for width in (24, 48, 24))
    expected = attention + dense + 2 * shared + 2 * 4 * routed
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == expected


def test_an_adapter_of_plain_peft_on_per_expert_linears_gives_the_same_outputs(tmp_path):
    model = tiny_model()
    _, expected = plain_peft(model, tmp_path)
    base = model(input_ids=ids()).logits
    adapted = load_adapter(model, tmp_path)
    torch.testing.assert_close(adapted(input_ids=ids()).logits, expected, rtol=1e-5, atol=1e-5)
    assert (expected - base).abs().max() > 0.1


def test_gradients_equal_plain_pefts(tmp_path):
    model = tiny_model()
    reference, _ = plain_peft(model, tmp_path)
    adapted = load_adapter(model, tmp_path, trainable=True)
    labels = ids()
    for candidate in (reference, adapted):
        candidate(input_ids=ids(), labels=labels).loss.backward()
    wanted = {
        name.replace(".default.weight", ""): parameter.grad
        for name, parameter in reference.named_parameters()
        if "lora_" in name
    }
    layer = adapted.get_base_model().model.layers[1].mlp.experts
    for e in range(4):
        for name in ("gate_proj", "up_proj", "down_proj"):
            for side, stacked in zip("AB", layer.matrices("default", name), strict=True):
                key = f"base_model.model.model.layers.1.mlp.experts.{e}.{name}.lora_{side}"
                expected = wanted[key] if wanted[key] is not None else torch.zeros_like(stacked[e])
                torch.testing.assert_close(stacked.grad[e], expected, rtol=1e-4, atol=1e-6)


def test_our_adapter_loads_in_plain_peft(tmp_path):
    model = tiny_model()
    reference = reference_model(model)
    adapted = add_lora(model, LoraSettings(r=4, alpha=8)).eval()
    randomise(adapted)
    expected = adapted(input_ids=ids()).logits
    save_adapter(adapted, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(reference, str(tmp_path / "adapter")).eval()
    torch.testing.assert_close(loaded(input_ids=ids()).logits, expected, rtol=1e-5, atol=1e-5)


def test_files_have_the_hubs_names(tmp_path):
    adapted = add_lora(tiny_model(), LoraSettings(r=4))
    adapted.save_pretrained(tmp_path / "adapter")
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert tensors["base_model.model.model.layers.1.mlp.experts.3.gate_proj.lora_A.weight"].shape == (4, 32)
    assert tensors["base_model.model.model.layers.1.mlp.experts.3.gate_proj.lora_B.weight"].shape == (24, 4)
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (4, 32)
    assert tensors["base_model.model.model.layers.2.mlp.shared_experts.down_proj.lora_B.weight"].shape == (
        32,
        4,
    )
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["target_modules"] == sorted(EVERY_PROJECTION)
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 16, "LORA")


@pytest.mark.parametrize(
    "targets",
    [
        ("attention",),
        ("routed_experts",),
        ("dense_mlp", "shared_experts"),
        ("attention", "vision"),
        ("projector", "routed_experts"),
    ],
)
def test_any_choice_of_parts_survives_both_ways(tmp_path, targets):
    model = tiny_model()
    reference = reference_model(model)
    bare = copy.deepcopy(model)
    adapted = add_lora(model, LoraSettings(r=2, targets=targets)).eval()
    randomise(adapted)
    views = {
        64: torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    }
    pictured = torch.tensor([[0, *[59] * 3, 7, 8, 9]])  # one token, its newline, the separator
    call = {"input_ids": pictured, "views": views, "image_layouts": [(64, 0, 0, 0)]}
    expected = adapted(**call).logits
    save_adapter(adapted, tmp_path / "adapter")
    torch.testing.assert_close(load_adapter(bare, tmp_path / "adapter")(**call).logits, expected)
    plain = PeftModel.from_pretrained(reference, str(tmp_path / "adapter")).eval()
    torch.testing.assert_close(plain(**call).logits, expected, rtol=1e-5, atol=1e-5)
    saved = set(load_file(tmp_path / "adapter/adapter_model.safetensors"))
    asked = {name.replace(".default", "") for name in plain.state_dict() if "lora_" in name}
    assert saved == asked, "plain PEFT looks for other tensors than the file holds"


def test_an_adapter_on_some_experts_and_projections_leaves_the_rest(tmp_path):
    model = tiny_model()
    some = r".*layers\.1\.mlp\.experts\.(0|2)\.(gate_proj|down_proj)"
    _, expected = plain_peft(model, tmp_path, target_modules=some)
    adapted = load_adapter(model, tmp_path)
    torch.testing.assert_close(adapted(input_ids=ids()).logits, expected, rtol=1e-5, atol=1e-5)
    _, b = adapted.get_base_model().model.layers[1].mlp.experts.matrices("default", "gate_proj")
    assert b[1].count_nonzero() == 0
    assert b[2].count_nonzero() > 0


def test_ranks_and_alphas_by_pattern(tmp_path):
    model = tiny_model()
    patterns = {
        "rank_pattern": {r"experts.\d+.gate_proj": 2, r"layers.2.self_attn.q_proj": 3},
        "alpha_pattern": {r"experts.1.up_proj": 20},
    }
    _, expected = plain_peft(model, tmp_path / "plain", **patterns)
    adapted = load_adapter(copy.deepcopy(model), tmp_path / "plain")
    torch.testing.assert_close(adapted(input_ids=ids()).logits, expected, rtol=1e-5, atol=1e-5)
    save_adapter(adapted, tmp_path / "again")
    again = load_adapter(copy.deepcopy(model), tmp_path / "again")
    torch.testing.assert_close(again(input_ids=ids()).logits, expected, rtol=1e-5, atol=1e-5)
    plain = PeftModel.from_pretrained(reference_model(model), str(tmp_path / "again")).eval()
    torch.testing.assert_close(plain(input_ids=ids()).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.15)])
def test_merged_outputs_equal_the_adapters(tmp_path, dtype, tolerance):
    model = tiny_model().to(dtype)
    adapted = add_lora(model, LoraSettings(r=4)).eval()
    randomise(adapted)
    expected = adapted.to(dtype)(input_ids=ids()).logits
    merged = merge_adapter(adapted)
    assert type(merged) is OcrModel
    assert not any("lora" in name for name, _ in merged.named_parameters())
    difference = (merged(input_ids=ids()).logits - expected).abs()
    scale = expected.abs().max()
    assert difference.mean() <= tolerance * scale / 10
    if dtype == torch.float32:
        assert difference.max() <= tolerance * scale
    merged.save_pretrained(tmp_path / "merged")
    assert {*load_file(tmp_path / "merged/model.safetensors")} >= {
        "model.layers.1.mlp.experts.3.gate_proj.weight"
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "no autocast"])
@pytest.mark.parametrize("rank", [3, 8])
def test_a_float32_adapter_trains_on_a_base_in_half_precision(dtype, autocast, rank):
    """As on a GPU: base in bf16 or fp16, adapter in float32, autocast in training but not in evaluations."""
    losses, found = [], []
    for wanted in (torch.float32, dtype):
        adapted = add_lora(tiny_model().to(wanted), LoraSettings(r=rank))
        randomise(adapted)
        with torch.autocast("cpu", dtype, enabled=autocast and wanted == dtype):
            loss = adapted(input_ids=ids(), labels=ids()).loss
        loss.backward()
        losses.append(loss.item())
        grads = {name: p.grad for name, p in adapted.named_parameters() if p.requires_grad}
        assert {grad.dtype for grad in grads.values()} == {torch.float32}
        found.append(torch.cat([grad.flatten() for grad in grads.values()]))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert F.cosine_similarity(*found, dim=0) > 0.9


def test_a_step_with_an_adapter_never_waits_for_the_device():
    adapted = add_lora(tiny_model(), LoraSettings(r=4, dropout=0.1)).train()
    labels = ids()
    batch = {"input_ids": ids(), "labels": labels, "label_rows": torch.arange(10)}
    outputs = []
    assert waits_of(lambda: outputs.append(adapted(**batch))) == []
    assert waits_of(outputs[0].loss.backward) == []


def test_disabling_the_adapter_gives_the_base():
    model = tiny_model()
    before = model(input_ids=ids()).logits
    adapted = add_lora(model, LoraSettings(r=4)).eval()
    randomise(adapted)
    with adapted.disable_adapter():
        assert torch.equal(adapted(input_ids=ids()).logits, before)
    assert not torch.equal(adapted(input_ids=ids()).logits, before)


def test_dropout_acts_in_training_only():
    adapted = add_lora(tiny_model(), LoraSettings(r=4, dropout=0.5, targets=("routed_experts",)))
    randomise(adapted)
    adapted.train()
    assert not torch.equal(adapted(input_ids=ids()).logits, adapted(input_ids=ids()).logits)
    adapted.eval()
    assert torch.equal(adapted(input_ids=ids()).logits, adapted(input_ids=ids()).logits)


def test_generate_works_through_peft_and_through_the_base():
    adapted = add_lora(tiny_model(), LoraSettings(r=4)).eval()
    randomise(adapted)
    options = {"max_new_tokens": 5, "do_sample": False}
    through_peft = adapted.generate(input_ids=ids(), **options)
    assert torch.equal(through_peft, adapted.get_base_model().generate(input_ids=ids(), **options))
    assert through_peft.shape[1] > 11


def test_reload_fills_the_adapter_in_place(tmp_path):
    adapted = add_lora(tiny_model(), LoraSettings(r=4)).eval()
    randomise(adapted, seed=1)
    expected = adapted(input_ids=ids()).logits
    save_adapter(adapted, tmp_path / "checkpoint")
    randomise(adapted, seed=2)
    reload_adapter(adapted, tmp_path / "checkpoint")
    assert torch.equal(adapted(input_ids=ids()).logits, expected)


# --- adapters that do not fit ---------------------------------------------------------------------------------


def test_adapter_of_another_size_lists_what_differs(tmp_path):
    save_adapter(add_lora(tiny_model(), LoraSettings(r=4)), tmp_path / "adapter")
    with pytest.raises(AdapterError) as error:
        load_adapter(tiny_model(hidden_size=16), tmp_path / "adapter")
    assert "another base" in str(error.value)
    assert "model.layers.0.self_attn.q_proj (A (4, 32), B (32, 4); the base has 16 x 16)" in str(error.value)
    assert "more" in str(error.value)


def test_adapter_with_more_experts_or_layers_lists_what_differs(tmp_path):
    save_adapter(add_lora(tiny_model(), LoraSettings(r=4)), tmp_path / "adapter")
    with pytest.raises(AdapterError, match="the base has 3 experts"):
        load_adapter(tiny_model(n_routed_experts=3), tmp_path / "adapter")
    with pytest.raises(AdapterError, match="no such module"):
        load_adapter(tiny_model(num_hidden_layers=2), tmp_path / "adapter")


def test_adapter_of_a_base_with_other_weights_is_refused(tmp_path):
    save_adapter(add_lora(tiny_model(seed=0), LoraSettings(r=4)), tmp_path / "adapter")
    with pytest.raises(AdapterError, match="the weights are not"):
        load_adapter(tiny_model(seed=1), tmp_path / "adapter")
    load_adapter(tiny_model(seed=1), tmp_path / "adapter", check_base=False)
    load_adapter(tiny_model(seed=0).to(torch.bfloat16), tmp_path / "adapter")  # another dtype is the same base


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("use_rslora", True, "use_rslora"),
        ("use_dora", True, "DoRA"),
        ("bias", "all", "trained biases"),
        ("modules_to_save", ["lm_head"], "modules_to_save"),
        ("init_lora_weights", "pissa", "pissa"),
        ("peft_type", "IA3", "IA3"),
        ("r", "many", "no rank"),
        ("r", 5, "has rank 4, but adapter_config.json says 5"),
    ],
)
def test_unsupported_kinds_are_named(tmp_path, option, value, words):
    save_adapter(add_lora(tiny_model(), LoraSettings(r=4)), tmp_path / "adapter")
    file = tmp_path / "adapter/adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), option: value}))
    with pytest.raises(AdapterError, match=re.escape(words)):
        load_adapter(tiny_model(), tmp_path / "adapter")


def test_missing_damaged_and_foreign_files_are_named(tmp_path):
    with pytest.raises(AdapterError, match=r"adapter_config\.json is missing"):
        load_adapter(tiny_model(), tmp_path / "nowhere")
    folder = tmp_path / "adapter"
    save_adapter(add_lora(tiny_model(), LoraSettings(r=4)), folder)
    weights = folder / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AdapterError, match="damaged"):
        load_adapter(tiny_model(), folder)
    save_file({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(4, 32)}, weights)
    with pytest.raises(AdapterError, match=r"lora_B\.weight \(missing\)"):
        load_adapter(tiny_model(), folder)
    native = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file({native.format(side): torch.zeros(4, 4) for side in "AB"}, weights)
    with pytest.raises(AdapterError, match="no such module"):
        load_adapter(tiny_model(), folder)
    weights.unlink()
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors is missing"):
        load_adapter(tiny_model(), folder)


def test_a_second_adapter_on_top_is_refused():
    adapted = add_lora(tiny_model(), LoraSettings(r=4))
    with pytest.raises(AdapterError, match="adapter already"):
        add_lora(adapted.get_base_model(), LoraSettings())


def test_an_interrupted_save_leaves_the_old_adapter(tmp_path, monkeypatch):
    adapted = add_lora(tiny_model(), LoraSettings(r=4))
    save_adapter(adapted, tmp_path / "adapter")
    before = {file.name: file.read_bytes() for file in (tmp_path / "adapter").iterdir()}

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ocrsmith.model.weights.write_safetensors", no_space)
    with pytest.raises(Exception, match="No space left"):
        save_adapter(adapted, tmp_path / "adapter")
    assert {file.name: file.read_bytes() for file in (tmp_path / "adapter").iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["adapter"]
