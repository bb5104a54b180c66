"""Micro-batches: however a step is divided and packed, the recipe's loss and gradients come out."""

from __future__ import annotations

import pytest
import torch

from ocrsmith.model.lora import add_lora
from ocrsmith.settings import LoraSettings
from ocrsmith.training.collate import Collator, StepCollator, TrainingItem, TrainingSamples
from ocrsmith.training.feature_cache import FeatureCache
from ocrsmith.training.micro_batches import Division, Load, StepLearner, loads_of

from .conftest import digits


@pytest.fixture
def step(processor):
    """Eight samples of unequal length."""
    samples = digits(8, start=1)
    samples = [s.__class__(s.id, s.image, s.image_path, s.text * (1 + n % 3)) for n, s in enumerate(samples)]
    return TrainingSamples(samples, processor, range(8))


@pytest.fixture
def adapted(make_model):
    def make(**options):
        torch.manual_seed(1)
        model = add_lora(make_model(), LoraSettings(r=4, **options))
        with torch.no_grad():  # B begins as zero, and then A has no gradient
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.1)
        return model.train()

    return make


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def recipe(model, samples, batch: int = 2) -> tuple[float, dict[str, torch.Tensor]]:
    """Padded batches, gradients summed over them, as the Trainer accumulates: the plain path."""
    collate = Collator(samples.processor)
    batches = [collate([samples[n] for n in range(start, start + batch)]) for start in range(0, 8, batch)]
    items = sum(int((b["labels"][:, 1:] != -100).sum()) for b in batches)
    total = 0.0
    for inputs in batches:
        loss = model(**inputs, num_items_in_batch=items).loss
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def learn(model, samples, division, **options) -> tuple[float, dict[str, torch.Tensor]]:
    batch = StepCollator(samples.processor)([samples[n] for n in range(8)])
    trained = [p for p in model.parameters() if p.requires_grad]
    loss = StepLearner(division, trained, **options)(model, batch, batch.num_labels)
    return loss.item(), gradients(model)


def assert_same(ours, theirs):
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    assert ours[1].keys() == theirs[1].keys()
    for name, expected in theirs[1].items():
        scale = expected.abs().max()
        assert (ours[1][name] - expected).abs().max() <= 1e-5 * scale, name


@pytest.mark.parametrize("most", [1, 2, 3, 8])
@pytest.mark.parametrize("packed", [True, False])
def test_every_division_gives_the_gradients_of_padded_accumulation(adapted, step, most, packed):
    model = adapted()
    pad = None if packed else step.processor.tokens.pad
    assert_same(learn(model, step, Division(most), pad=pad), recipe(model, step))


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_with_checkpointing_too(adapted, step, checkpointing):
    model = adapted()
    expected = recipe(model, step)
    model.get_base_model().set_checkpointing(checkpointing)
    assert_same(learn(model, step, Division(3)), expected)


def test_with_an_encoder_that_learns_too(adapted, step):
    model = adapted(targets=["attention", "vision", "projector"])
    assert_same(learn(model, step, Division(3)), recipe(model, step))


def test_cached_features_are_dealt_out_to_the_right_samples(adapted, step):
    model = adapted()
    expected = recipe(model, step)
    cache = FeatureCache.build(model.get_base_model(), step, batch_size=4, workers=0)
    items = [TrainingItem(n, cache.encoded[n]) for n in range(8)]
    batch = StepCollator(step.processor, cached=True)(items)
    batch.image_features = cache.gather(batch.indices)
    assert not batch.views
    trained = [p for p in model.parameters() if p.requires_grad]
    loss = StepLearner(Division(3), trained)(model, batch, batch.num_labels).item()
    assert_same((loss, gradients(model)), expected)


def test_tiles_and_views_go_with_their_sample(processor):
    """Layouts with and without tiles, sliced apart, are what collating each part gives."""
    tiled = processor.__class__(processor.tokenizer, processor.settings.model_copy(update={"mode": "gundam"}))
    from PIL import Image

    sizes = [(1400, 700), (300, 100), (700, 2000)]
    encoded = [
        tiled.encode([Image.new("RGB", size, (n * 40, 0, 0))], text="a" * (n + 1))
        for n, size in enumerate(sizes)
    ]
    whole = StepCollator(tiled)([TrainingItem(n, item) for n, item in enumerate(encoded)])
    for start, stop in [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)]:
        part, alone = whole.part(start, stop), tiled.collate_packed(encoded[start:stop])
        assert part["image_layouts"] == alone["image_layouts"]
        assert part["sequence_lengths"] == alone["sequence_lengths"]
        assert part["views"].keys() == alone["views"].keys()
        for name in ("input_ids", "labels", "label_rows"):
            assert torch.equal(part[name], alone[name]), name
        for side, views in alone["views"].items():
            assert torch.equal(part["views"][side], views)


def test_padded_parts_are_what_the_plain_collator_makes(step):
    items = [step[n] for n in range(8)]
    whole = StepCollator(step.processor)(items)
    for start, stop in [(0, 8), (2, 5), (7, 8)]:
        part = whole.padded_part(start, stop, step.processor.tokens.pad)
        plain = Collator(step.processor)(items[start:stop])
        assert part.keys() == plain.keys()
        for name in ("input_ids", "labels", "label_rows"):
            assert torch.equal(part[name], plain[name]), name


# --- division -------------------------------------------------------------------------------------------------


def loads(*tokens: int) -> list[Load]:
    return [Load(1, n, 1, n, n) for n in tokens]


def by_tokens(budget: float) -> Division:
    return Division(cost=lambda load: float(load.tokens), budget=budget)


@pytest.mark.parametrize(
    ("division", "tokens", "expected"),
    [
        (Division(), (5, 5, 5), [(0, 3)]),
        (Division(2), (5, 5, 5), [(0, 2), (2, 3)]),
        (by_tokens(100), (30, 30, 30), [(0, 3)]),
        (by_tokens(60), (20, 20, 20, 20), [(0, 2), (2, 4)]),  # not 3 and 1
        (by_tokens(10), (30, 40), [(0, 1), (1, 2)]),  # one sample always goes
        (by_tokens(50), (10, 45, 10, 10), [(0, 1), (1, 2), (2, 4)]),
    ],
)
def test_divisions_by_hand(division, tokens, expected):
    assert division(loads(*tokens)) == expected


def test_every_division_covers_every_sample_once_and_stays_in_its_budget():
    generator = torch.Generator().manual_seed(3)
    for _ in range(200):
        tokens = torch.randint(
            1, 100, (int(torch.randint(1, 20, (), generator=generator)),), generator=generator
        )
        budget = float(torch.randint(50, 400, (), generator=generator))
        parts = by_tokens(budget)(loads(*tokens.tolist()))
        assert [n for start, stop in parts for n in range(start, stop)] == list(range(len(tokens)))
        assert all(stop - start == 1 or tokens[start:stop].sum() <= budget for start, stop in parts)


def test_what_a_sample_asks_for(step):
    items = [step[n] for n in range(8)]
    found = loads_of(StepCollator(step.processor)(items))
    assert [load.tokens for load in found] == [item.encoded.num_tokens for item in items]
    assert [load.labels for load in found] == [
        sum(label != -100 for label in item.encoded.labels) for item in items
    ]
    assert {(load.samples, load.pixels, load.image_tokens) for load in found} == {(1, 512 * 512, 64)}


# --- out of memory --------------------------------------------------------------------------------------------


class Cramped(torch.nn.Module):
    """Has no room for more than so many tokens at once, and finds out in the middle of the backward pass."""

    def __init__(self, model, room: int) -> None:
        super().__init__()
        self.model = model
        self.room = room
        self.seen: list[int] = []

    def forward(self, input_ids, **inputs):
        self.seen.append(input_ids.numel())
        outputs = self.model(input_ids=input_ids, **inputs)
        if input_ids.numel() > self.room:
            outputs["loss"].backward(retain_graph=True)  # gradients are there already
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return outputs


def test_a_micro_batch_that_does_not_fit_is_halved_and_the_step_done_again(adapted, step):
    model = adapted()
    expected = recipe(model, step)
    batch = StepCollator(step.processor)([step[n] for n in range(8)])
    trained = [p for p in model.parameters() if p.requires_grad]
    said: list[str] = []
    learner = StepLearner(Division(), trained, say=said.append)
    cramped = Cramped(model, 3 * max(batch.lengths))
    loss = learner(cramped, batch, batch.num_labels).item()
    assert_same((loss, gradients(model)), expected)
    assert (learner.retries, learner.largest, learner.division.most) == (2, 2, 2)
    assert len(said) == 2
    assert "8 samples at once did not fit" in said[0]
    cramped.seen.clear()
    learner(cramped, batch, batch.num_labels)  # the next step begins with what fits
    assert (len(cramped.seen), learner.retries) == (4, 2)


def test_a_budget_that_was_too_large_is_halved(adapted, step):
    model = adapted()
    expected = recipe(model, step)
    batch = StepCollator(step.processor)([step[n] for n in range(8)])
    trained = [p for p in model.parameters() if p.requires_grad]
    learner = StepLearner(by_tokens(1e9), trained)
    loss = learner(Cramped(model, batch.num_tokens // 2 + 20), batch, batch.num_labels).item()
    assert_same((loss, gradients(model)), expected)
    assert learner.division.budget == max(sum(batch.lengths[:4]), sum(batch.lengths[4:]))


def test_one_sample_that_does_not_fit_is_an_error(adapted, step):
    model = adapted()
    batch = StepCollator(step.processor)([step[n] for n in range(8)])
    trained = [p for p in model.parameters() if p.requires_grad]
    with pytest.raises(torch.OutOfMemoryError):
        StepLearner(Division(), trained)(Cramped(model, 10), batch, batch.num_labels)
