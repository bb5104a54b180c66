"""Every recorded stage of the original, in every mode, within the recording's float32 tolerances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.weights import load_model

from .conftest import CASES, IMAGE_TOKEN, Recording

every_case = pytest.mark.parametrize("case", CASES)


def watch(model: OcrModel) -> tuple[dict[str, Any], list[Any]]:
    """Collects what every module of interest returns, under the recording's names."""
    backbone = model.model
    modules: dict[str, nn.Module] = {
        "sam": backbone.sam_model,
        "sam_patch": backbone.sam_model.patch_embed,
        "sam_neck": backbone.sam_model.neck,
        "sam_net2": backbone.sam_model.net_2,
        "clip": backbone.vision_model,
        "clip_embeddings": backbone.vision_model.embeddings,
        "clip_pre": backbone.vision_model.pre_layrnorm,
        "projector": backbone.projector,
        "router1": backbone.layers[1].mlp.gate,
        "router2": backbone.layers[2].mlp.gate,
    }
    modules |= {f"sam_block{index}": block for index, block in enumerate(backbone.sam_model.blocks)}
    modules |= {
        f"clip_layer{index}": block for index, block in enumerate(backbone.vision_model.transformer.layers)
    }
    seen: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    return seen, [module.register_forward_hook(keep(name)) for name, module in modules.items()]


def sliced(values: Tensor, spelling: str | None) -> Tensor:
    """Applies a slice as the recording spells it, such as "[:1, ::8, ::8]"."""
    if spelling is None:
        return values
    parts = [part.strip().split(":") for part in spelling.strip("[]").split(",")]
    numbers = [[int(number) if number else None for number in part] for part in parts]
    return values[tuple(slice(*part) for part in numbers)]


@pytest.mark.parametrize("case", ["tiny512", "small640", "base1024", "large1280", "gundam_tiles"])
def test_every_stage_of_the_vision_encoder(case: str, recording: Recording, recorded_model: OcrModel) -> None:
    stages = {
        name: value
        for name, value in recording.under(f"{case}/").items()
        if name.startswith(("sam", "clip", "projector"))
    }
    assert len(stages) == 14
    seen, hooks = watch(recorded_model)
    with torch.no_grad():
        recorded_model.model(recording.views_of(case))
    for hook in hooks:
        hook.remove()
    for name, expected in stages.items():
        description = recording.meta["tensors"][f"{case}/{name}"]
        actual = seen[name]
        if checksum := description.get("checksum"):
            assert list(actual.shape) == checksum["full_shape"]
            assert actual.mean().item() == pytest.approx(checksum["mean"], abs=2e-6), name
            assert actual.double().std().item() == pytest.approx(checksum["std"], rel=1e-5), name
        torch.testing.assert_close(
            sliced(actual, description.get("slice")),
            expected,
            atol=recording.tolerances["vision_stages_atol"],
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@every_case
def test_embeddings_hidden_states_routing_logits_and_loss(
    case: str, recording: Recording, recorded_model: OcrModel
) -> None:
    inputs = recording.inputs(case)
    seen, hooks = watch(recorded_model)
    with torch.no_grad():
        features = recorded_model.encode_images(inputs["views"], inputs["image_layouts"])
        out = recorded_model(**inputs, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    rows = recording.tensors[f"{case}/positions"].long()
    hidden = dict(zip(("embeds", "layer0", "layer1", "layer2", "norm"), out.hidden_states, strict=True))
    actual = {f"hidden_{name}": state[0, rows] for name, state in hidden.items()}
    actual |= {"image_embeds": features, "logits": out.logits[0, rows], "loss": out.loss[None]}
    for layer in (1, 2):
        scores, indices, weights = seen[f"router{layer}"]
        best = scores.topk(3).values
        actual[f"router{layer}_indices"] = indices.int()
        actual[f"router{layer}_weights"] = weights
        actual[f"router{layer}_margin"] = best[:, 1] - best[:, 2]
    recorded = {
        name: value
        for name, value in recording.under(f"{case}/").items()
        if name not in ("input_ids", "labels", "positions", "greedy")
        and not name.startswith(("sam", "clip", "projector"))
    }
    assert set(recorded) == set(actual)
    assert len(recording.tensors[f"{case}/input_ids"]) == out.logits.shape[1]
    for name, expected in recorded.items():
        torch.testing.assert_close(
            actual[name],
            expected,
            atol=0 if name.endswith("indices") else recording.tolerances[tolerance_of(name)],
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def tolerance_of(name: str) -> str:
    if name.startswith("router"):
        return "router_weights_atol"
    return f"{name.split('_')[0] if name.startswith('hidden') else name}_atol"


def test_no_recorded_tensor_is_left_unread(recording: Recording) -> None:
    prefixes = {key.split("/")[0] for key in recording.tensors}
    assert prefixes == {*CASES, "gundam_tiles", "batch2", "grad"}
    assert {key.split("/")[1] for key in recording.tensors if key.startswith("grad/")} == {
        "base1024_ce",
        "base1024_ce_aux",
        "base1024_ce_vision",
        "gundam_ce_vision",
    }
    assert {key for key in recording.tensors if key.endswith("greedy")} == {"base1024/greedy", "gundam/greedy"}
    assert {key for key in recording.tensors if key.startswith(("batch2", "gundam_tiles"))} == {
        "batch2/loss",
        *(f"gundam_tiles/{name}" for name in recording.under("gundam_tiles/")),
    }


def test_normalised_floats_are_taken_as_well_as_bytes(recording: Recording, recorded_model: OcrModel) -> None:
    views = recording.views_of("tiny512")
    floats = (views.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        assert torch.equal(recorded_model.model(views), recorded_model.model(floats))


@every_case
def test_bfloat16_stays_close(case: str, recording: Recording) -> None:
    """One token in a hundred goes to another expert: loss and mean error hold, single logits do not."""
    model = load_model(str(recording.checkpoint), dtype=torch.bfloat16)
    model.config.image_token_id = IMAGE_TOKEN
    with torch.no_grad():
        out = model(**recording.inputs(case))
    rows = recording.tensors[f"{case}/positions"].long()
    errors = out.logits[0, rows].float() - recording.tensors[f"{case}/logits"]
    assert out.loss.item() == pytest.approx(recording.tensors[f"{case}/loss"].item(), abs=0.02)
    assert errors.square().mean().sqrt() < 0.1  # logits have a standard deviation of 3


# --- batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "masked"),
    [("right", True), ("right", False), ("left", True)],
    ids=["right padded", "right padded without a mask", "left padded"],
)
def test_loss_of_the_recorded_batch(
    side: str, masked: bool, recording: Recording, recorded_model: OcrModel
) -> None:
    batch = recording.batch(["base1024", "gundam"], side)
    if not masked:  # no token sees the padding after it
        del batch["attention_mask"]
    with torch.no_grad():
        out = recorded_model(**batch)
    assert out.loss.item() == pytest.approx(
        recording.tensors["batch2/loss"].item(), abs=recording.tolerances["loss_atol"]
    )


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_of_all_modes_gives_the_rows_of_the_single_runs(
    side: str, recording: Recording, recorded_model: OcrModel
) -> None:
    cases = ["gundam", "tiny512", "large1280", "base1024", "small640"]
    batch = recording.batch(cases, side)
    with torch.no_grad():
        logits = recorded_model(**batch).logits
    for row, case in enumerate(cases):
        real = logits[row][batch["attention_mask"][row].bool()]
        torch.testing.assert_close(
            real[recording.tensors[f"{case}/positions"].long()],
            recording.tensors[f"{case}/logits"],
            atol=recording.tolerances["logits_atol"],
            rtol=0,
        )


def test_several_images_in_one_prompt_are_the_single_images_one_after_another(
    recording: Recording, recorded_model: OcrModel
) -> None:
    first, second = recording.images("tiny512"), recording.images("gundam")
    prompt = torch.tensor([recording.meta["prompt_ids"]])
    pieces = [torch.zeros(1, 1, dtype=torch.long)]
    for case in ("tiny512", "gundam"):
        pieces += [torch.full((1, recording.meta["n_image_tokens"][case]), 500), prompt]
    features = torch.cat([recording.tensors[f"{case}/image_embeds"] for case in ("tiny512", "gundam")])
    ids = torch.cat(pieces, dim=1)
    with torch.no_grad():
        out = recorded_model(input_ids=ids, views=first[0] | second[0], image_layouts=first[1] + second[1])
        expected = recorded_model(input_ids=ids, image_features=features)
    torch.testing.assert_close(out.logits, expected.logits, atol=recording.tolerances["logits_atol"], rtol=0)


def test_label_rows_give_the_loss_and_logits_of_the_whole_sequence(
    recording: Recording, recorded_model: OcrModel
) -> None:
    batch = recording.batch(["base1024", "tiny512"], "right")
    labels = batch["labels"]
    following = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)
    rows = (following != -100).flatten().nonzero()[:, 0]
    with torch.no_grad():
        whole = recorded_model(**batch)
        some = recorded_model(**batch, label_rows=rows)
    assert some.logits.shape == (42, 512)
    torch.testing.assert_close(some.loss, whole.loss, atol=1e-6, rtol=0)
    torch.testing.assert_close(some.logits, whole.logits.flatten(0, 1)[rows], atol=1e-5, rtol=0)


# --- greedy decoding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["base1024", "gundam"])
def test_greedy_tokens(case: str, recording: Recording, recorded_model: OcrModel) -> None:
    views, layouts = recording.images(case)
    prompt = recording.prompt(case)
    tokens = recorded_model.generate(
        input_ids=prompt,
        views=views,
        image_layouts=layouts,
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=None,
    )
    written = tokens[0, prompt.shape[1] :].tolist()
    assert written == recording.meta["greedy"][case]["tokens"]
    assert written == recording.tensors[f"{case}/greedy"].tolist()


@pytest.mark.parametrize("case", ["base1024", "gundam"])
def test_greedy_tokens_under_loop_control(case: str, recording: Recording, recorded_model: OcrModel) -> None:
    from ocrsmith.engines.decoding import NoRepeatNGramProcessor

    views, layouts = recording.images(case)
    prompt = recording.prompt(case)
    tokens = recorded_model.generate(
        input_ids=prompt,
        views=views,
        image_layouts=layouts,
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=None,
        logits_processor=[NoRepeatNGramProcessor(2, 6, prompt_length=prompt.shape[1])],
    )
    expected = recording.meta["greedy"][case]["with_sliding_no_repeat_ngram_size2_window6"]["tokens"]
    assert tokens[0, prompt.shape[1] :].tolist() == expected


def test_a_left_padded_batch_decodes_to_the_tokens_of_the_single_runs(
    recording: Recording, recorded_model: OcrModel
) -> None:
    batch = recording.batch(["base1024", "gundam"], "left")
    ends = len(recording.meta["response_ids"])
    tokens = recorded_model.generate(
        input_ids=batch["input_ids"][:, :-ends],
        attention_mask=batch["attention_mask"][:, :-ends],
        views=batch["views"],
        image_layouts=batch["image_layouts"],
        max_new_tokens=24,
        do_sample=False,
        eos_token_id=None,
    )
    assert tokens[:, -24:].tolist() == [
        recording.meta["greedy"][case]["tokens"] for case in ("base1024", "gundam")
    ]
