"""NF4: the number format against its definition and bitsandbytes; quantised models against dense ones."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import bitsandbytes
import pytest
import torch
from torch import Tensor, nn

from ocrsmith.errors import AdapterError, OutputError, SettingsError, WeightsError
from ocrsmith.model import nf4, weights
from ocrsmith.model.adapter_names import base_fingerprint
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.experts import PROJECTIONS, GroupedExperts
from ocrsmith.model.lora import adapter_pairs, add_lora, merge_adapter
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.quantized import (
    Nf4GroupedExperts,
    Nf4Linear,
    carried_fingerprint,
    hollow_model,
    is_quantized,
    parameter_count,
    quantize_model,
    refuse_merge,
    weight_bytes,
)
from ocrsmith.model.weights import load_model, save_model
from ocrsmith.settings import LoraSettings

from ..parity.tiny import original_config_values, tiny_model

SHAPES = [(1,), (2,), (64,), (5, 7), (130, 64), (3, 100, 77), (8, 160, 256)]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.02).to(dtype)


def buffers(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_buffers())


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def with_dense_weights(quantised: OcrModel, original: OcrModel) -> OcrModel:
    """The original with the quantised model's weights, dense."""
    dense = copy.deepcopy(original)
    with torch.no_grad():
        for name, module in quantised.named_modules():
            if isinstance(module, Nf4Linear | Nf4GroupedExperts):
                for key in module.packed_weights():
                    getattr(dense.get_submodule(name), key).copy_(module.dense_weight(key))
    return dense


def ids(seed: int = 1) -> Tensor:
    return torch.randint(3, 90, (2, 13), generator=torch.Generator().manual_seed(seed))


# --- the format ----------------------------------------------------------------------------------------------


def test_the_levels_are_quantiles_of_a_normal_distribution():
    """QLoRA, equation 4 and appendix E: eight above zero, seven below, over the largest."""
    quantiles = [
        torch.special.ndtri(torch.linspace(0.9677083, 0.5, n, dtype=torch.float64)[:-1]) for n in (9, 8)
    ]
    wanted = torch.cat([-quantiles[1], torch.zeros(1, dtype=torch.float64), quantiles[0].flip(0)])
    wanted /= wanted.max()
    torch.testing.assert_close(torch.tensor(nf4.LEVELS, dtype=torch.float64), wanted, rtol=0, atol=1e-6)


def test_a_code_is_the_nearest_level_and_the_first_of_two_is_the_upper_half():
    x = normal(3, 50)
    codes = nf4.quantize(x).codes.tolist()
    flat = x.flatten().tolist()
    for block in range(0, len(flat), 64):
        top = max(abs(value) for value in flat[block : block + 64])
        for place in range(block, min(block + 64, len(flat))):
            distances = [abs(flat[place] / top - level) for level in nf4.LEVELS]
            code = codes[place // 2] >> 4 if place % 2 == 0 else codes[place // 2] & 15
            assert distances[code] <= min(distances) + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bitsandbytes_packs_the_same_codes_and_reads_ours(shape, dtype):
    x = normal(*shape, dtype=dtype)
    ours, theirs = nf4.quantize(x), nf4.quantize(x, backend="bitsandbytes")
    assert torch.equal(ours.codes, theirs.codes)
    assert torch.equal(ours.factors, theirs.factors)
    assert torch.equal(ours.offset, theirs.offset)
    for packed in (ours, theirs):
        for out in (torch.float32, torch.bfloat16, torch.float16):
            plain = nf4.dequantize(packed, out, backend="torch")
            assert torch.equal(plain, nf4.dequantize(packed, out, backend="bitsandbytes"))


def test_bitsandbytes_scales_are_ours_but_for_its_misses_of_the_nearest_step():
    x = normal(700, 1280)
    ours, theirs = nf4.quantize(x), nf4.quantize(x, backend="bitsandbytes")
    scales = x.view(-1, 64).abs().amax(dim=1)
    ours_off, theirs_off = (nf4.block_scales(packed) - scales for packed in (ours, theirs))
    differ = ours.scales != theirs.scales
    assert differ.float().mean() < 0.005
    assert (ours_off.abs() <= theirs_off.abs() + 1e-9).all()
    assert (ours.scales.int() - theirs.scales.int()).abs().max() <= 1


def test_the_steps_are_bitsandbytes_dynamic_type():
    assert torch.equal(nf4.dynamic_steps(), bitsandbytes.functional.create_dynamic_map())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_errors_stay_within_half_a_gap(shape):
    x = normal(*shape, seed=3)
    packed = nf4.quantize(x)
    flat = torch.nn.functional.pad(x.flatten(), (0, -x.numel() % 64)).view(-1, 64)
    scales = flat.abs().amax(dim=1)
    off = (nf4.block_scales(packed) - scales).abs()
    factors = packed.factors.repeat_interleave(256)[: len(off)]
    assert (off <= factors * 0.0071 + 1e-9).all()  # steps are 0.9 / 64 apart at most
    wrong = (nf4.dequantize(packed, torch.float32) - x).abs().flatten()
    widest = (1 - 0.6961928) / 2
    bound = (scales * widest + off).repeat_interleave(64)[: len(wrong)]
    assert (wrong <= bound * 1.00001 + 1e-9).all()


def test_more_than_a_chunk_is_as_one(monkeypatch):
    x = normal(70, 131)
    whole = nf4.quantize(x)
    dense = nf4.dequantize(whole, torch.bfloat16)
    monkeypatch.setattr(nf4, "_CHUNK", 1024)
    parts = nf4.quantize(x)
    assert torch.equal(whole.codes, parts.codes)
    assert torch.equal(whole.scales, parts.scales)
    assert torch.equal(dense, nf4.dequantize(whole, torch.bfloat16))


def test_zeros_stay_zeros():
    x = torch.zeros(3, 64)
    x[1] = normal(64)
    dense = nf4.dequantize(nf4.quantize(x), torch.float32)
    assert dense[[0, 2]].abs().max() < 1e-6
    assert dense[1].abs().max() > 0.01


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value):
    x = normal(4, 40)
    x[2, 3] = value
    with pytest.raises(WeightsError, match=r"not finite(.|\n)*model\.bad"):
        nf4.quantize(x, place="model.bad")


# --- modules -------------------------------------------------------------------------------------------------


def test_the_decoders_projections_are_quantised_and_nothing_else():
    model = tiny_model()
    before = {name for name, _ in model.named_parameters()}
    quantize_model(model)
    gone = before - {name for name, _ in model.named_parameters()}
    wanted = {
        f"model.layers.{layer}.{part}"
        for layer in range(3)
        for part in [
            *(f"self_attn.{p}_proj.weight" for p in "qkvo"),
            *(f"mlp.{'shared_experts.' if layer else ''}{p}.weight" for p in PROJECTIONS),
            *(f"mlp.experts.{p}" for p in PROJECTIONS if layer),
        ]
    }
    assert gone == wanted
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_nothing_dense_is_kept():
    dense = tiny_model()
    count, quantised = sum(p.numel() for p in dense.parameters()), quantize_model(copy.deepcopy(dense))
    kept = dict(quantised.named_parameters())
    wanted = sum(p.numel() * 4 for p in kept.values())
    for name, parameter in dense.named_parameters():
        if name not in kept:
            blocks = math.ceil(parameter.numel() / 64)
            wanted += math.ceil(parameter.numel() / 2) + blocks + 4 * math.ceil(blocks / 256) + 4
    assert weight_bytes(quantised) == wanted + sum(b.numel() * b.element_size() for b in dense.buffers())
    assert parameter_count(quantised) == count
    with torch.no_grad():
        quantised(input_ids=ids())
    assert weight_bytes(quantised) == wanted + sum(b.numel() * b.element_size() for b in dense.buffers())


def test_the_3b_model_takes_2_6_gib():
    with torch.device("meta"):
        model = OcrModel(OcrConfig.from_dict(original_config_values()))
    model = nn.Module.to(model, torch.bfloat16)
    assert weight_bytes(model) == 2 * 3_336_106_240
    hollow_model(model)
    assert parameter_count(model) == 3_336_106_240
    assert weight_bytes(model) == 2_809_251_608


@pytest.mark.parametrize("cast", [lambda m: m.to(torch.bfloat16), lambda m: m.half(), lambda m: m.double()])
def test_casts_change_the_arithmetic_and_not_the_codes(cast):
    model = quantize_model(tiny_model())
    before = {name: buffer.clone() for name, buffer in buffers(model).items()}
    cast(model)
    assert same(before, buffers(model))
    layer = model.model.layers[1]
    assert layer.self_attn.q_proj.dense_weight().dtype == layer.mlp.experts.dense_weight("up_proj").dtype
    assert layer.self_attn.q_proj.dense_weight().dtype == layer.self_attn.q_proj.weight.dtype == model.dtype


def test_a_packed_weight_tells_its_shape_and_spoils_what_computes_with_it():
    model = quantize_model(tiny_model().to(torch.bfloat16))
    experts = model.model.layers[1].mlp.experts
    linear = model.model.layers[0].self_attn.q_proj
    assert isinstance(experts, GroupedExperts)
    assert isinstance(linear, nn.Linear)
    assert (linear.in_features, linear.out_features, linear.bias, linear.weight.shape) == (
        32,
        32,
        None,
        (32, 32),
    )
    for name, shape in {"gate_proj": (5, 24, 32), "up_proj": (5, 24, 32), "down_proj": (5, 32, 24)}.items():
        assert (
            experts.shape_of(name) == getattr(experts, name).shape == experts.dense_weight(name).shape == shape
        )
        assert getattr(experts, name).isnan().all()
        assert getattr(experts, name).dtype == torch.bfloat16
        with pytest.raises(RuntimeError):
            getattr(experts, name).copy_(torch.zeros(shape))
    assert not list(experts.parameters())
    assert not list(linear.parameters())


def adapted(model: OcrModel, **settings) -> nn.Module:
    torch.manual_seed(0)
    peft_model = add_lora(model, LoraSettings(r=4, alpha=8, **settings))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return peft_model.train()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_gradients_are_those_of_the_dequantised_weights(dropout, checkpointing):
    original = tiny_model()
    quantised = quantize_model(copy.deepcopy(original))
    dense = with_dense_weights(quantised, original)
    results = []
    for model in (quantised, dense):
        peft_model = adapted(model, dropout=dropout)
        peft_model.get_base_model().set_checkpointing(checkpointing)
        torch.manual_seed(1)
        loss = peft_model(input_ids=ids(), labels=ids()).loss
        loss.backward()
        results.append((loss, {n: p.grad for n, p in peft_model.named_parameters() if p.requires_grad}))
    (loss, gradients), (wanted_loss, wanted) = results
    torch.testing.assert_close(loss, wanted_loss, rtol=1e-6, atol=0)
    assert gradients.keys() == wanted.keys()
    assert len(wanted) == 2 * (3 * 4 + 3 + 2 * 3 + 2 * 3)
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).abs().max() <= 1e-5 * wanted[name].abs().max(), name


def test_layers_without_an_adapter_pass_gradients_on():
    original = tiny_model()
    quantised = quantize_model(copy.deepcopy(original))
    gradients = []
    for model in (quantised, with_dense_weights(quantised, original)):
        model.requires_grad_(False).train()
        model.model.embed_tokens.weight.requires_grad_(True)
        model(input_ids=ids(), labels=ids()).loss.backward()
        gradients.append(model.model.embed_tokens.weight.grad)
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-5 * gradients[1].abs().max()


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"targets": ("attention",)}])
def test_no_dense_weight_waits_for_the_backward_pass(settings):
    peft_model = adapted(quantize_model(tiny_model()), **settings)
    sizes = {5 * 24 * 32, 32 * 32, 24 * 32, 48 * 32}
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept.append(tensor.untyped_storage().nbytes() // tensor.element_size())
        return tensor

    rows = ids()[:, :11]  # 22 tokens: no activation has a weight's size
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = peft_model(input_ids=rows, labels=rows).loss
    assert loss.requires_grad
    assert kept
    assert not sizes & set(kept)


def test_mixed_precision_casts_as_linear_layers_do():
    model = quantize_model(tiny_model())
    x = torch.randn(3, 32, requires_grad=True)
    linear = model.model.layers[0].self_attn.q_proj
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = linear(x)
        wanted = nn.functional.linear(x, linear.dense_weight())
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, wanted)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


def test_an_adapter_has_the_places_that_it_has_on_a_dense_base():
    dense, packed = (adapter_pairs(adapted(m)) for m in (tiny_model(), quantize_model(tiny_model())))
    assert {p: (a.shape, b.shape) for p, (a, b) in dense.items()} == {
        p: (a.shape, b.shape) for p, (a, b) in packed.items()
    }


# --- loading -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["one file", "shards"])
def folder(request, tmp_path, monkeypatch) -> Path:
    if request.param == "shards":
        monkeypatch.setattr(weights, "MAX_SHARD_BYTES", 20_000)  # a layer's experts in several files
    save_model(tiny_model().to(torch.bfloat16), tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_quantising_while_reading_is_quantising_afterwards(folder, dtype):
    streamed = load_model(str(folder), dtype=dtype, quantization="nf4")
    dense = load_model(str(folder))
    fingerprint = base_fingerprint(dense.named_parameters())
    later = quantize_model(dense).to(dtype)
    assert is_quantized(streamed)
    assert streamed.dtype == dtype
    assert same(buffers(streamed), buffers(later))
    assert same(dict(streamed.named_parameters()), dict(later.named_parameters()))
    assert carried_fingerprint(streamed) == carried_fingerprint(later) == fingerprint
    with torch.no_grad():
        assert torch.equal(streamed(input_ids=ids()).logits, later(input_ids=ids()).logits)


def test_reading_holds_one_tensor_at_a_time(folder, monkeypatch):
    """Counted in dense values alive when each tensor is quantised."""
    alive: list[int] = []
    before = nf4.quantize

    def count(x: Tensor, **options):
        alive.append(x.untyped_storage().nbytes())
        return before(x, **options)

    monkeypatch.setattr(nf4, "quantize", count)
    load_model(str(folder), quantization="nf4")
    assert len(alive) == 3 * 4 + 3 * 3 + 2 * 3
    assert max(alive) == 5 * 24 * 32 * 2


def test_a_damaged_weight_is_named(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[2].mlp.experts.up_proj[3, 1, 1] = math.nan
    save_model(model, tmp_path)
    with pytest.raises(WeightsError, match=r"layers\.2\.mlp\.experts\.up_proj"):
        load_model(str(tmp_path), quantization="nf4")


def test_a_plain_model_carries_no_fingerprint(folder):
    assert carried_fingerprint(load_model(str(folder))) is None


# --- what it cannot do ---------------------------------------------------------------------------------------


def test_merging_is_refused_with_advice_and_changes_nothing():
    peft_model = adapted(quantize_model(tiny_model()))
    before = {name: buffer.clone() for name, buffer in buffers(peft_model).items()}
    with pytest.raises(AdapterError, match=r"4 bits(.|\n)*load the base in 16 bit"):
        refuse_merge(peft_model)
    with pytest.raises(AdapterError, match=r"4 bits(.|\n)*load the base in 16 bit"):
        merge_adapter(peft_model)
    assert same(before, buffers(peft_model))


def test_saving_is_refused_with_advice(tmp_path):
    with pytest.raises(OutputError, match=r"4 bits(.|\n)*save the adapter"):
        save_model(quantize_model(tiny_model()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_quantising_twice_or_under_an_adapter_is_refused():
    with pytest.raises(WeightsError, match="already"):
        quantize_model(quantize_model(tiny_model()))
    with pytest.raises(AdapterError, match="has an adapter"):
        quantize_model(adapted(tiny_model()).get_base_model())


def test_another_quantization_is_refused():
    with pytest.raises(SettingsError, match="'int8'"):
        load_model("nano", quantization="int8")
