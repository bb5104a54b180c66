"""Keys and values in slots: decoding a token at a time gives what one pass over the whole sequence gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ocrsmith.model.attention import PackedAttention
from ocrsmith.model.decode_attention import attend_slots_plain, key_mask
from ocrsmith.model.decode_step import StepModel
from ocrsmith.model.decode_weights import DecoderWeights, UnknownLayerError, folding_bytes
from ocrsmith.model.lora import add_lora, merge_adapter
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.static_cache import KeptPrompt, KeyValueSlots, SlotAttention, bytes_per_token
from ocrsmith.settings import LoraSettings

from ..parity.tiny import relative_difference, tiny_config_values, tiny_model

LENGTHS = [5, 9, 3]
STEPS = 6


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield


def tuned_model(**changes: Any) -> Any:
    """The tiny model with an adapter that changes every layer."""
    tuned = add_lora(tiny_model(**changes), LoraSettings(r=3, alpha=6))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return tuned.eval()


def sequences(seed: int = 0) -> list[Tensor]:
    """Prompts with what follows them: (length + STEPS,) ids each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, 90, (length + STEPS,), generator=generator) for length in LENGTHS]


def whole(model: Any, ids: Tensor) -> Tensor:
    """Logits (T, V) of one sequence by the model's own forward pass."""
    logits: Tensor = model(input_ids=ids[None], use_cache=False).logits[0]
    return logits


def prefilled(model: OcrModel, given: list[Tensor], slots: int, length: int) -> KeyValueSlots:
    """A cache with the prompts of the sequences in its first slots."""
    sizes, dtype = model.config.decoder_sizes, model.lm_head.weight.dtype
    cache = KeyValueSlots(sizes, slots, length, torch.device("cpu"), dtype)
    packed = PackedAttention(LENGTHS, torch.device("cpu"))
    prompt = KeptPrompt(packed)
    ids = torch.cat([one[:length] for one, length in zip(given, LENGTHS, strict=True)])[None]
    model.decode(model.embed(ids, None), packed.positions(), prompt)
    start = 0
    for slot, length in enumerate(LENGTHS):
        cache.store(slot, prompt, start, start + length)
        start += length
    return cache


def decoded(step: StepModel, cache: KeyValueSlots, given: list[Tensor], steps: int = STEPS) -> Tensor:
    """Logits (sequences, steps, V), a step at a time."""
    places = torch.tensor(LENGTHS)
    out = []
    for number in range(steps):
        tokens = torch.stack([one[length + number] for one, length in zip(given, LENGTHS, strict=True)])
        out.append(step(tokens, places + number, cache, int(places.max()) + number + 1))
    return torch.stack(out, dim=1)


def expected(model: Any, given: list[Tensor]) -> Tensor:
    return torch.stack([whole(model, one)[-STEPS:] for one in given])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_topk_prob": True, "routed_scaling_factor": 2.5},
        {"first_k_dense_replace": 0, "n_shared_experts": 1},
        {"first_k_dense_replace": 3},
    ],
    ids=str,
)
def test_steps_give_what_the_whole_sequence_gives(changes: dict[str, Any]) -> None:
    model = tiny_model(language_config={**tiny_config_values()["language_config"], **changes})
    given = sequences()
    step = StepModel(model)
    assert step.weights is not None
    actual = decoded(step, prefilled(model, given, slots=4, length=20), given)
    assert relative_difference(actual, expected(model, given)) < 1e-5


@pytest.mark.parametrize("fold", [True, False])
def test_an_adapter_counts_folded_in_and_apart(fold: bool) -> None:
    tuned, given = tuned_model(), sequences()
    model = tuned.get_base_model()
    step = StepModel(model, fold=fold)
    assert step.weights is not None
    assert step.weights.layers[1].qkv.fold == fold
    actual = decoded(step, prefilled(model, given, slots=3, length=16), given)
    assert relative_difference(actual, expected(tuned, given)) < 1e-5
    bare = expected(tiny_model(), given)
    assert relative_difference(actual, bare) > 0.01, "the adapter changes what is said"


def test_an_adapter_that_is_switched_off_or_merged_is_left_out() -> None:
    tuned, given = tuned_model(), sequences()
    model = tuned.get_base_model()
    with tuned.disable_adapter():
        actual = decoded(StepModel(model), prefilled(model, given, slots=3, length=16), given)
        assert relative_difference(actual, expected(tiny_model(), given)) < 1e-5
    merged = merge_adapter(tuned)
    actual = decoded(StepModel(merged), prefilled(merged, given, slots=3, length=16), given)
    assert relative_difference(actual, expected(tuned_model(), given)) < 1e-4


@pytest.mark.parametrize("fold", [True, False])
def test_copies_follow_weights_that_training_changes(fold: bool) -> None:
    tuned, given = tuned_model(), sequences()
    model = tuned.get_base_model()
    step = StepModel(model, fold=fold)
    assert step.weights is not None
    places = [step.weights.layers[1].qkv.weight.data_ptr(), step.weights.layers[2].down.weight.data_ptr()]
    for name, parameter in tuned.named_parameters():
        if "lora_" in name or "q_proj.base_layer" in name or "shared_experts.up_proj.base_layer" in name:
            parameter.mul_(1.5)
    step.refresh()
    actual = decoded(step, prefilled(model, given, slots=3, length=16), given)
    assert relative_difference(actual, expected(tuned, given)) < 1e-5
    assert places == [
        step.weights.layers[1].qkv.weight.data_ptr(),
        step.weights.layers[2].down.weight.data_ptr(),
    ], "in place, where a captured graph reads them"


def test_folding_needs_room() -> None:
    model = tuned_model().get_base_model()
    need = folding_bytes(model.model.layers)
    for room, folded in ((need, True), (need - 1, False)):
        weights = StepModel(model, room=room).weights
        assert weights is not None
        assert weights.layers[1].qkv.fold == folded
    assert folding_bytes(tiny_model().model.layers) == 0


class Unusual(nn.Linear):
    """Computes something else than its class."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def test_layers_of_a_kind_that_is_not_known_run_as_they_are() -> None:
    model, given = tiny_model(), sequences()
    old = model.model.layers[1].self_attn.o_proj
    new = Unusual(old.in_features, old.out_features, bias=False)
    new.load_state_dict(old.state_dict())
    model.model.layers[1].self_attn.o_proj = new
    with pytest.raises(UnknownLayerError):
        DecoderWeights(model.model.layers, model.model.norm, fold=False)
    step = StepModel(model)
    assert step.weights is None
    actual = decoded(step, prefilled(model, given, slots=3, length=16), given)
    assert relative_difference(actual, expected(model, given)) < 1e-5


def test_slots_keep_what_they_hold_when_they_move_and_grow() -> None:
    model, given = tiny_model(), sequences()
    step = StepModel(model)
    straight = decoded(step, prefilled(model, given, slots=3, length=16), given)
    cache = prefilled(model, given, slots=5, length=10)
    cache.move(0, 4, LENGTHS[0])
    cache.keys[:, 0] = cache.values[:, 0] = float("nan")  # left by another sequence
    cache.move(4, 0, LENGTHS[0])
    cache.resize(4, 16)
    assert (cache.slots, cache.length) == (4, 16)
    torch.testing.assert_close(decoded(step, cache, given), straight, rtol=1e-5, atol=1e-5)


def test_a_slot_forgets_the_sequence_before() -> None:
    model, given = tiny_model(), sequences()
    clean = decoded(StepModel(model), prefilled(model, given, slots=3, length=16), given)
    cache = prefilled(model, given, slots=3, length=16)
    cache.keys.fill_(float("inf"))
    cache.values.fill_(float("nan"))
    again = prefilled(model, given, slots=3, length=16)
    prompt = KeptPrompt(PackedAttention(LENGTHS, torch.device("cpu")))
    ids = torch.cat([one[:length] for one, length in zip(given, LENGTHS, strict=True)])[None]
    model.decode(model.embed(ids, None), prompt.packed.positions(), prompt)
    start = 0
    for slot, length in enumerate(LENGTHS):
        cache.store(slot, prompt, start, start + length)
        start += length
    assert torch.equal(cache.keys, again.keys)
    assert torch.equal(cache.values, again.values)
    assert torch.equal(decoded(StepModel(model), cache, given), clean)


def test_what_lies_behind_a_sequence_does_not_count() -> None:
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 2, 8, generator=generator)
    keys, values = (torch.randn(3, 2, 12, 8, generator=generator) for _ in range(2))
    positions = torch.tensor([4, 0])
    out = attend_slots_plain(q, keys, values, positions)
    for row, position in enumerate(positions.tolist()):
        k, v = keys[row, :, : position + 1], values[row, :, : position + 1]
        shares = (q[row][:, None] @ k.transpose(1, 2) * 8**-0.5).softmax(-1)
        torch.testing.assert_close(out[row], (shares @ v)[:, 0])
    short = attend_slots_plain(q, keys, values, positions, key_mask(positions, 5))
    torch.testing.assert_close(short, out)


def test_layers_must_come_in_order() -> None:
    prompt = KeptPrompt(PackedAttention([2], torch.device("cpu")))
    x = torch.zeros(1, 2, 1, 4)
    with pytest.raises(ValueError, match="layer 1 came when 0 was due"):
        prompt(1, x, x, x)


def test_the_modules_way_stores_where_the_short_way_does() -> None:
    model, given = tiny_model(), sequences()
    caches = [prefilled(model, given, slots=3, length=12) for _ in range(2)]
    tokens, positions = torch.tensor([7, 8, 9]), torch.tensor(LENGTHS)
    StepModel(model)(tokens, positions, caches[0], 12)
    attend = SlotAttention(caches[1], positions, key_mask(positions, 12))
    model.decode(model.embed(tokens[:, None], None), positions[:, None], attend)
    torch.testing.assert_close(caches[0].keys, caches[1].keys, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(caches[0].values, caches[1].values, rtol=1e-5, atol=1e-6)


def test_a_token_takes_so_many_bytes() -> None:
    sizes = tiny_model().config.decoder_sizes
    cache = KeyValueSlots(sizes, 2, 7, torch.device("cpu"), torch.bfloat16)
    assert cache.keys.nbytes + cache.values.nbytes == 2 * 7 * bytes_per_token(sizes, torch.bfloat16)
