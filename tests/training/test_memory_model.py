"""The memory model: counts against real modules, terms against tensors that autograd keeps, plans that fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ocrsmith.model.config import OcrConfig
from ocrsmith.model.lora import add_lora
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.settings import LoraSettings
from ocrsmith.training import planning
from ocrsmith.training.collate import StepCollator, TrainingSamples
from ocrsmith.training.hardware import Hardware
from ocrsmith.training.memory_model import KINDS, MemoryModel, Plan, count_adapter, count_parameters
from ocrsmith.training.micro_batches import Load, loads_of
from ocrsmith.training.planning import plan_step
from ocrsmith.training.settings import TrainSettings
from ocrsmith.training.survey import survey

from .conftest import digits, tiny_config

FULL = OcrConfig(language_config={}, vision_config={}, projector_config={}, image_token_id=128815)
LINE = Load(1, 310, 31, 273, 1024 * 1024)
PAGE = Load(1, 1910, 1001, 903, 1024 * 1024 + 6 * 640 * 640)


def times(load: Load, count: int) -> Load:
    return sum([load] * (count - 1), load)


def model(**options) -> MemoryModel:
    return MemoryModel(FULL, Plan(**options))


def test_the_3b_model_has_the_published_number_of_parameters():
    counts = count_parameters(FULL)
    assert counts.total == 3_336_106_240
    assert counts.vocabulary == 2 * 129_280 * 1280
    assert count_adapter(FULL, LoraSettings()) == 77_509_632


@pytest.mark.parametrize("targets", [["attention"], ["routed_experts", "dense_mlp"], ["vision", "projector"]])
def test_counts_are_those_of_the_model_itself(processor, make_model, targets):
    real, lora = make_model(), LoraSettings(r=3, targets=targets)
    config = tiny_config(processor)
    assert count_parameters(config).total == sum(p.numel() for p in real.parameters())
    adapted = add_lora(real, lora)
    assert count_adapter(config, lora) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_weights_by_hand():
    assert model().weights() == 2 * 3_336_106_240
    assert model(dtype=torch.float32).weights() == 4 * 3_336_106_240
    in_4_bits = count_parameters(FULL).decoder
    rest = 2 * (3_336_106_240 - in_4_bits)
    assert model(quantized=True).weights() == pytest.approx(in_4_bits * 4.127 / 8 + rest)


def test_an_8_bit_optimiser_takes_a_quarter():
    assert model(optimizer="adamw_8bit").optimizer() == pytest.approx(model().optimizer() / 4, rel=0.02)


@pytest.mark.parametrize("load", [times(LINE, 2), times(PAGE, 2), times(PAGE, 8)])
def test_what_saves_memory_saves_memory(load):
    peaks = [model(checkpointing=kind).peak(load).total for kind in KINDS]
    assert peaks == sorted(peaks, reverse=True)
    kept = [model(checkpointing=kind).kept(load) for kind in KINDS]
    assert kept[0] > kept[1] > kept[2]
    assert model(quantized=True).peak(load).total < model().peak(load).total - 3e9
    assert model(compiled=True).micro_batch(load) <= model().micro_batch(load)


def test_more_tokens_never_take_less():
    one = model()
    sizes = [one.micro_batch(times(PAGE, count)) for count in range(1, 9)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 4 * sizes[0]


def test_a_peak_is_the_sum_of_its_named_parts():
    peak = model().peak(times(LINE, 2), micro_batches=4)
    parts = [getattr(peak, name) for name in peak.__slots__]
    assert sum(parts) == pytest.approx(peak.total)
    assert peak.gradients == 4 * 77_509_632
    assert model().fixed() <= peak.total


def test_a_cuda_graph_keeps_its_memory_while_the_encoder_works():
    load = times(LINE, 2)
    plain, replayed = model(), model(longest_replayed=4096)
    assert replayed.micro_batch(load) == pytest.approx(
        plain.kept(load) + plain.workspace(load) + plain.encoder(load)
    )
    assert replayed.peak(load).gradients == plain.gradients()
    assert replayed.micro_batch(times(PAGE, 3)) == plain.micro_batch(times(PAGE, 3))  # too long a row


def kept_bytes(run: Callable[[], torch.Tensor], weights: set[int]) -> int:
    """Bytes of the storages that autograd keeps for the backward pass, those of parameters left out."""
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()  # holds them, so that no address comes twice
    assert loss.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("checkpointing", ["none", "selective"])
def test_what_is_kept_is_what_autograd_keeps(processor, checkpointing):
    """Wider than the other tests' model, so that tensors the model does not name do not count."""
    config = tiny_config(processor)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "moe_intermediate_size": 96, "num_hidden_layers": 6}
    config = OcrConfig(
        language_config={**config.language_config, **sizes},
        vision_config=config.vision_config,
        image_token_id=config.image_token_id,
    )
    lora = LoraSettings(r=4)
    adapted = add_lora(OcrModel(config), lora).train()
    adapted.get_base_model().set_checkpointing(checkpointing)
    samples = TrainingSamples(digits(4), processor, range(4))
    batch = StepCollator(processor)([samples[number] for number in range(4)])
    inputs = batch.part(0, 4)
    with torch.no_grad():
        features = adapted.get_base_model().encode_images(inputs.pop("views"), inputs.pop("image_layouts"))
    weights = {p.untyped_storage().data_ptr() for p in adapted.parameters()}
    found = kept_bytes(lambda: adapted(**inputs, image_features=features).loss, weights)
    expected = MemoryModel(config, Plan(dtype=torch.float32, checkpointing=checkpointing, lora=lora))
    load = sum(loads_of(batch)[1:], loads_of(batch)[0])
    layer = expected._moe_layer(load.tokens, "none") - expected._moe_layer(load.tokens, "selective")
    again = layer if checkpointing == "selective" else 0.0  # the one computed anew is not kept yet
    assert found == pytest.approx(expected.kept(load) - again, rel=0.15)


# --- plans ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tight(monkeypatch, processor):
    """Makes a plan for the 3B model with so many bytes free on a GPU."""

    def make(free: float, **options):
        monkeypatch.setattr(planning, "free_memory", lambda device: int(free))
        monkeypatch.setattr(planning, "total_memory", lambda device: 16 * 10**9)
        settings = TrainSettings.from_values({"model": "m", "data": "d", **options})
        hardware = Hardware(torch.device("cuda"), "bf16", "adamw_torch_fused")
        found = survey(digits(9), processor)
        return plan_step(FULL, found, settings, hardware, compiled=True, cached=True)

    return make


def test_the_least_recomputation_that_fits_is_chosen(tight):
    roomy = tight(60e9)
    largest = Load(2, 2 * 88, 2 * 4, 2 * 73, 0)  # the longest two of the samples
    needs = [roomy.memory.with_checkpointing(kind).micro_batch(largest) for kind in KINDS]
    assert needs == sorted(needs, reverse=True)
    elsewhere = 60e9 - roomy.budget
    for kind, need in zip(KINDS, needs, strict=True):
        assert tight(elsewhere + need + 9).checkpointing == kind
    assert tight(elsewhere).checkpointing == "full"
    assert tight(60e9, gradient_checkpointing=True).checkpointing == "full"
    assert tight(1e9, gradient_checkpointing="none").checkpointing == "none"


def test_as_many_samples_at_once_as_fit(tight):
    loads = [times(LINE, 1)] * 8
    assert tight(60e9).division()(loads) == [(0, 8)]
    assert tight(60e9, micro_batch=3).division()(loads) == [(0, 3), (3, 6), (6, 8)]
    cramped = tight(60e9 - tight(60e9).budget + tight(60e9).memory.micro_batch(times(LINE, 3)) + 9).division()
    parts = cramped(loads)
    assert len(parts) > 1
    assert all(cramped.cost(times(LINE, stop - start)) <= cramped.budget for start, stop in parts)


def test_a_measured_micro_batch_corrects_the_plan(tight):
    plan = tight(60e9)
    load = times(LINE, 2)
    expected = plan.memory.peak(load)
    part = expected.gradients + expected.activations + expected.workspace
    again = plan.rescaled(1.5 * part, load)
    assert again.memory.micro_batch(load) == pytest.approx(1.5 * plan.memory.micro_batch(load))
    assert plan.rescaled(100 * part, load).memory.scale == 2.0
