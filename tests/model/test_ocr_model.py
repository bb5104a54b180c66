"""The whole model on random weights: batches, padding, generation, training, and no waiting for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ocrsmith.errors import SettingsError, WeightsError
from ocrsmith.model.ocr_model import OcrModel, grid_of

from ..parity.tiny import IMAGE_TOKEN, image_tokens, random_views, relative_difference, tiny_model

Layout = tuple[int, int, int, int]
PLAIN: Layout = (128, 0, 0, 0)
SMALL: Layout = (64, 0, 0, 0)
TILED: Layout = (192, 128, 3, 2)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """A model this small is slower with threads, many times on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


GREEDY: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 2}


def sample(layouts: list[Layout], seed: int, answer: int = 5) -> dict[str, Any]:
    """One sequence: bos, every image followed by four tokens of text, an answer; a batch of one."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [0]
    for layout in layouts:
        tokens += [IMAGE_TOKEN] * image_tokens(layout)
        tokens += torch.randint(3, 90, (4,), generator=generator).tolist()
    response = torch.randint(3, 90, (answer,), generator=generator).tolist()
    return {
        "input_ids": torch.tensor([tokens + response]),
        "labels": torch.tensor([[-100] * len(tokens) + response]),
        "views": random_views(layouts, seed),
        "image_layouts": layouts,
    }


def collate(samples: list[dict[str, Any]], side: str = "right") -> dict[str, Any]:
    """Pads samples to one batch, with views by size and the rows that have a label, as the processor does."""
    length = max(one["input_ids"].shape[1] for one in samples)
    views: dict[int, list[Tensor]] = {}
    columns: dict[str, list[Tensor]] = {"input_ids": [], "labels": [], "attention_mask": []}
    for one in samples:
        for size, stack in one["views"].items():
            views.setdefault(size, []).append(stack)
        missing = length - one["input_ids"].shape[1]
        widths = (0, missing) if side == "right" else (missing, 0)
        values = {**one, "attention_mask": torch.ones_like(one["input_ids"])}
        for name, filling in (("input_ids", 2), ("labels", -100), ("attention_mask", 0)):
            columns[name].append(torch.nn.functional.pad(values[name], widths, value=filling))
    batch: dict[str, Any] = {name: torch.cat(rows) for name, rows in columns.items()}
    batch["views"] = {size: torch.cat(stacks) for size, stacks in views.items()}
    batch["image_layouts"] = [layout for one in samples for layout in one["image_layouts"]]
    following = torch.cat([batch["labels"][:, 1:], torch.full((len(samples), 1), -100)], dim=1)
    batch["label_rows"] = (following != -100).flatten().nonzero()[:, 0]
    return batch


def without(batch: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name not in names}


def gradients(model: OcrModel, **inputs: Any) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    model(**inputs).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(
    actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5
) -> None:
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert relative_difference(actual[name], value) <= tolerance, name


# --- image sequences ---------------------------------------------------------------------------------------


def test_grid_of_lays_tiles_out_row_by_row() -> None:
    # 3 columns and 2 rows of tiles with 2 x 2 tokens, each token its tile's number.
    tiles = torch.arange(6.0).view(6, 1, 1).expand(6, 4, 1)
    rows = grid_of(tiles, columns=3, rows=2)[..., 0]
    assert rows.tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2


def test_grid_of_keeps_the_places_within_a_tile() -> None:
    tile = torch.arange(4.0).view(1, 4, 1)
    assert grid_of(tile, 1, 1)[..., 0].tolist() == [[0, 1], [2, 3]]


def test_an_image_is_tiles_then_global_view_with_newlines_then_a_separator() -> None:
    model = tiny_model()
    views = random_views([TILED])
    with torch.no_grad():
        features = model.encode_images(views, [TILED])
        tiles, overview = model.model(views[128]), model.model(views[192])
    newline, separator = model.model.image_newline, model.model.view_seperator
    assert len(features) == image_tokens(TILED) == 4 * 7 + 3 * 4 + 1
    torch.testing.assert_close(features[0], tiles[0, 0])
    torch.testing.assert_close(features[2], tiles[1, 0])  # first row: two tokens of each tile
    torch.testing.assert_close(features[7], tiles[0, 2])  # second row of the first tile
    torch.testing.assert_close(features[14], tiles[3, 0])  # third row: the second row of tiles
    torch.testing.assert_close(features[6], newline)
    torch.testing.assert_close(features[28], overview[0, 0])
    torch.testing.assert_close(features[31], newline)
    torch.testing.assert_close(features[-2], newline)
    torch.testing.assert_close(features[-1], separator)


def test_each_view_size_is_encoded_in_one_pass() -> None:
    model = tiny_model()
    sizes: list[int] = []
    hook = model.model.sam_model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    layouts = [TILED, PLAIN, SMALL, TILED, PLAIN]
    with torch.no_grad():
        model.encode_images(random_views(layouts), layouts)
    hook.remove()
    assert sorted(sizes) == [1, 2, 14]  # one of 64, two of 192, and 12 tiles and 2 views of 128


@pytest.mark.parametrize(
    ("layouts", "asked"),
    [
        ([PLAIN, PLAIN], "{128: 2}"),
        ([SMALL], "{128: 0, 64: 1}"),
        ([], "{128: 0}"),
        ([TILED], "{128: 6, 192: 1}"),
    ],
)
def test_views_that_do_not_fit_the_layouts_are_an_error(layouts: list[Layout], asked: str) -> None:
    with pytest.raises(ValueError, match="views hold") as caught:
        tiny_model().encode_images(random_views([PLAIN]), layouts)
    assert f"{{128: 1}}, but image_layouts ask for {asked}" in str(caught.value)


def test_more_placeholders_than_features_are_an_error() -> None:
    one = sample([SMALL, SMALL], 0)
    with pytest.raises((IndexError, RuntimeError)):
        tiny_model()(input_ids=one["input_ids"], views=random_views([SMALL]), image_layouts=[SMALL])


def test_neither_ids_nor_embeddings_is_an_error() -> None:
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        tiny_model()()


# --- batches -----------------------------------------------------------------------------------------------

MIXED = [[TILED], [SMALL], [PLAIN, SMALL, TILED], [PLAIN], [TILED, TILED], []]


@pytest.mark.parametrize("side", ["right", "left"])
def test_any_mix_of_images_gives_the_rows_of_single_runs(side: str) -> None:
    model = tiny_model()
    samples = [sample(layouts, seed) for seed, layouts in enumerate(MIXED)]
    batch = collate(samples, side)
    with torch.no_grad():
        together = model(**without(batch, "labels", "label_rows")).logits
        for row, one in enumerate(samples):
            alone = model(**without(one, "labels")).logits[0]
            real = batch["attention_mask"][row].bool()
            torch.testing.assert_close(together[row][real], alone, atol=2e-5, rtol=1e-5)


def test_padding_does_not_change_loss_or_gradients() -> None:
    model = tiny_model().train()
    samples = [sample(layouts, seed) for seed, layouts in enumerate(MIXED[:4])]
    right, left = collate(samples, "right"), collate(samples, "left")
    expected = gradients(model, **without(right, "label_rows"))
    assert_same_gradients(gradients(model, **right), expected)
    assert_same_gradients(gradients(model, **without(right, "attention_mask")), expected)
    assert_same_gradients(gradients(model, **left), expected)


def test_the_head_runs_on_label_rows_only() -> None:
    model = tiny_model().train()
    batch = collate([sample([SMALL], 0, answer=3), sample([SMALL], 1, answer=7)])
    seen: list[torch.Size] = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model(**batch)
    hook.remove()
    assert seen == [(10, 96)]


def test_loss_is_the_mean_cross_entropy_of_the_answer() -> None:
    model = tiny_model()
    one = sample([SMALL], 0, answer=3)
    with torch.no_grad():
        out = model(**one)
    chances = out.logits[0].log_softmax(-1)
    ids, length = one["input_ids"][0], one["input_ids"].shape[1]
    expected = -sum(chances[t, ids[t + 1]] for t in range(length - 4, length - 1)) / 3
    torch.testing.assert_close(out.loss, expected)


def test_accumulated_micro_batches_give_the_loss_of_the_whole_step() -> None:
    model = tiny_model()
    samples = [sample([SMALL], 0, answer=2), sample([PLAIN], 1, answer=9)]
    with torch.no_grad():
        whole = model(**collate(samples)).loss
        parts = [model(**collate([one]), num_items_in_batch=11).loss for one in samples]
    torch.testing.assert_close(sum(parts), whole)


def test_features_made_before_stand_in_for_views() -> None:
    model = tiny_model()
    one = sample([TILED, SMALL], 0)
    with torch.no_grad():
        features = model.encode_images(one["views"], one["image_layouts"])
        expected = model(**one)
        actual = model(**without(one, "views", "image_layouts"), image_features=features)
    assert torch.equal(actual.loss, expected.loss)


def test_hidden_states_and_kept_logits() -> None:
    model = tiny_model()
    one = without(sample([SMALL], 0), "labels")
    with torch.no_grad():
        out = model(**one, output_hidden_states=True)
        last = model(**one, logits_to_keep=1)
    assert len(out.hidden_states) == 1 + 3 + 1
    torch.testing.assert_close(model.lm_head(out.hidden_states[-1]), out.logits)
    torch.testing.assert_close(last.logits, out.logits[:, -1:])


def test_two_runs_are_bit_equal() -> None:
    batch = collate([sample(layouts, seed) for seed, layouts in enumerate(MIXED[:4])])
    first, second = (gradients(tiny_model().train(), **batch) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


# --- generation --------------------------------------------------------------------------------------------


def test_a_left_padded_batch_generates_what_single_runs_generate() -> None:
    model = tiny_model()
    samples = [sample(layouts, seed, answer=0) for seed, layouts in enumerate(MIXED)]
    batch = collate(samples, "left")
    together = model.generate(**without(batch, "labels", "label_rows"), **GREEDY)
    for row, one in enumerate(samples):
        length = one["input_ids"].shape[1]
        alone = model.generate(**without(one, "labels"), **GREEDY)
        assert together[row, -8:].tolist() == alone[0, length:].tolist()


def test_the_cache_changes_nothing_and_images_are_read_once() -> None:
    model = tiny_model()
    one = without(sample([TILED], 0, answer=0), "labels")
    runs: list[int] = []
    hook = model.model.sam_model.register_forward_hook(lambda module, inputs, output: runs.append(len(output)))
    cached = model.generate(**one, **GREEDY)
    hook.remove()
    assert len(runs) == 2  # tiles and global view, once each
    ids = one["input_ids"]
    with torch.no_grad():
        for _ in range(8):
            logits = model(input_ids=ids, views=one["views"], image_layouts=one["image_layouts"]).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(cached, ids)


def test_several_new_tokens_at_once_after_a_cache() -> None:
    model = tiny_model()
    ids = sample([], 0, answer=12)["input_ids"]
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=True).logits
        start = model(input_ids=ids[:, :6], use_cache=True)
        rest = model(input_ids=ids[:, 6:], past_key_values=start.past_key_values)
    torch.testing.assert_close(torch.cat([start.logits, rest.logits], dim=1), whole, atol=1e-5, rtol=1e-5)


def test_generation_stops_at_the_end_token() -> None:
    model = tiny_model()
    one = without(sample([SMALL], 0, answer=0), "labels")
    free = model.generate(**one, **GREEDY)[0, one["input_ids"].shape[1] :].tolist()
    stopped = model.generate(**one, **{**GREEDY, "eos_token_id": free[3]})
    assert stopped[0, one["input_ids"].shape[1] :].tolist() == free[: free.index(free[3]) + 1]


# --- training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.01], ids=["", "router loss"])
def test_gradient_checkpointing_gives_the_same_gradients(alpha: float) -> None:
    model = tiny_model().train()
    model.config.router_aux_loss_alpha = alpha
    batch = collate([sample(layouts, seed) for seed, layouts in enumerate(MIXED[:4])])
    expected = gradients(model, **batch)
    runs: list[int] = []
    hook = model.model.layers[1].mlp.register_forward_pre_hook(lambda module, inputs: runs.append(1))
    model.activation_checkpointing_enable({"use_reentrant": False})
    actual = gradients(model, **batch)
    hook.remove()
    assert len(runs) == 2  # once forwards, once again backwards
    assert_same_gradients(actual, expected, tolerance=1e-6)


def test_a_frozen_encoder_is_left_out_of_the_graph() -> None:
    """Also under checkpointing with gradients on the embeddings, as adapters ask for."""
    model = tiny_model().train()
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    kept: list[Tensor] = []
    hook = model.model.projector.register_forward_hook(lambda module, inputs, output: kept.append(output))
    found = gradients(model, **collate([sample([TILED], 0)]))
    hook.remove()
    assert set(found) == {"lm_head.weight"}
    assert not kept[0].requires_grad


def test_training_under_autocast_stays_close() -> None:
    model = tiny_model().train()
    batch = collate([sample(layouts, seed) for seed, layouts in enumerate(MIXED[:4])])
    expected = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=0.03)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_bfloat16_weights_run_and_stay_close() -> None:
    batch = collate([sample(layouts, seed) for seed, layouts in enumerate(MIXED[:4])])
    with torch.no_grad():
        expected = tiny_model()(**batch).loss.item()
        loss = tiny_model().bfloat16()(**batch).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=0.03)


# --- transformers' ways ------------------------------------------------------------------------------------


def test_save_pretrained_and_from_pretrained(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    again = OcrModel.from_pretrained(tmp_path)
    assert not again.training
    assert again.config.image_token_id == IMAGE_TOKEN
    state, expected = again.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    assert OcrModel.from_pretrained(str(tmp_path), dtype="bfloat16").dtype == torch.bfloat16
    assert OcrModel.from_pretrained(tmp_path, dtype=torch.float16).dtype == torch.float16
    with pytest.raises(WeightsError):
        OcrModel.from_pretrained(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="no dtype 'nonsense'"):
        OcrModel.from_pretrained(tmp_path, dtype="nonsense")


def test_embeddings_can_be_asked_for_and_replaced() -> None:
    model = tiny_model()
    assert model.get_input_embeddings() is model.model.embed_tokens
    assert model.get_output_embeddings() is model.lm_head
    other = torch.nn.Embedding(96, 32)
    model.set_input_embeddings(other)
    assert model.get_input_embeddings() is other


def test_a_fresh_model_is_random_everywhere_but_in_biases_and_norms() -> None:
    torch.manual_seed(0)
    model = OcrModel(tiny_model().config)
    constant = {name for name, p in model.named_parameters() if p.flatten()[0] == p.flatten()[-1]}
    assert all(name.endswith("bias") or "norm" in name or "neck" in name for name in constant), constant
    with torch.no_grad():
        assert model(**sample([TILED], 0)).loss.isfinite()


# --- no waiting for the device -----------------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Notes operations that would make the host wait for an accelerator, or whose shape depends on values."""

    OPERATIONS = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_consecutive",
        "bincount",
        "repeat_interleave.Tensor",
        "is_nonzero",
        "equal",
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        to_cpu = name.startswith("_to_copy") and (kwargs or {}).get("device") == torch.device("cpu")
        indexed_by_mask = name.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
        )
        if to_cpu or indexed_by_mask or any(name == op or name.startswith(f"{op}.") for op in self.OPERATIONS):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Readings(TorchFunctionMode):
    """Notes Python calls that read a tensor: some of them take a short cut where the tensor is on the CPU."""

    METHODS = (
        torch.Tensor.tolist,
        torch.Tensor.item,
        torch.Tensor.cpu,
        torch.Tensor.numpy,
        torch.Tensor.__bool__,
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.METHODS:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


def waits_of(action: Callable[[], object]) -> list[str]:
    """What in `action` would wait for an accelerator."""
    with Readings() as readings, Waits() as waits:
        action()
    return readings.found + waits.found


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_forward_and_backward_never_wait_for_the_device(training: bool, side: str) -> None:
    model = tiny_model().train(training)
    model.config.router_aux_loss_alpha = 0.001 if training else 0.0
    batch = collate([sample(layouts, seed) for seed, layouts in enumerate(MIXED)], side)
    if not training:
        batch = without(batch, "labels", "label_rows")
    with torch.set_grad_enabled(training):
        outputs: list[Any] = []
        assert waits_of(lambda: outputs.append(model(**batch))) == []
        if training:
            assert waits_of(outputs[0].loss.backward) == []


def test_a_step_of_generation_never_waits_for_the_device() -> None:
    model = tiny_model()
    batch = without(collate([sample([SMALL], 0), sample([PLAIN], 1)], "left"), "labels", "label_rows")
    ones = torch.ones(2, 1, dtype=torch.long)
    with torch.no_grad():
        cache = model(**batch, use_cache=True).past_key_values
        mask = torch.cat([batch["attention_mask"], ones], dim=1)
        found = waits_of(lambda: model(input_ids=ones, attention_mask=mask, past_key_values=cache))
    assert found == []


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: bool(x[0] > 0),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.to(torch.float64).to(device="cpu", copy=True),
    ],
)
def test_the_watch_sees_waits(wait: Any) -> None:
    assert waits_of(lambda: wait(torch.arange(3.0)))
