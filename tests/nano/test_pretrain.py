"""Pretraining of the nano model: its parts against independent calculations, and one short stage."""

from __future__ import annotations

import json
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from ocrsmith.model.weights import load_model, load_processor
from ocrsmith.nano import pretrain
from ocrsmith.nano.architecture import VIEW_SIZE
from ocrsmith.nano.learner import GRID, CtcHead, Learner, Masters, Vocabulary, ctc_loss
from ocrsmith.nano.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.build()


@pytest.fixture(scope="module")
def learner(vocabulary: Vocabulary) -> Learner:
    torch.manual_seed(0)
    return Learner(vocabulary)


def lines(*texts: str) -> list[SimpleNamespace]:
    rng = np.random.default_rng(0)
    shape = (VIEW_SIZE, VIEW_SIZE)
    return [SimpleNamespace(view=rng.integers(0, 256, shape, np.uint8), text=t, visual=t) for t in texts]


def settings(folder: Path, **values: object) -> pretrain.PretrainSettings:
    return pretrain.PretrainSettings(folder, folder / "run", compile=False, workers=0, batch=2, **values)


def batch_of(folder: Path, vocabulary: Vocabulary, *texts: str) -> dict[str, torch.Tensor]:
    level = get_context("spawn").Value("d", 0.0)
    source = pretrain.RenderedLines(settings(folder), vocabulary, level, 0)
    return source.batch(lines(*texts), build_tokenizer())


def test_a_batch_is_the_sequence_that_the_processor_makes(tmp_path: Path, vocabulary: Vocabulary) -> None:
    processor = load_processor("nano")
    batch = batch_of(tmp_path, vocabulary, "档案 12", "letters")
    for row, line in enumerate(lines("档案 12", "letters")):
        rgb = np.repeat(line.view[..., None], 3, axis=-1)
        from PIL import Image

        encoded = processor.encode([Image.fromarray(rgb)], None, line.text)
        length = len(encoded.input_ids)
        assert batch["input_ids"][row, :length].tolist() == encoded.input_ids
        assert batch["labels"][row, :length].tolist() == encoded.labels
        assert (batch["labels"][row, length:] == -100).all()
    wanted = (batch["labels"].flatten() != -100).nonzero().flatten() - 1
    assert batch["label_rows"].tolist() == wanted.tolist()


def test_paragraphs_and_unknown_characters_have_no_ctc_targets(tmp_path: Path, vocabulary: Vocabulary) -> None:
    batch = batch_of(tmp_path, vocabulary, "abc", "two\nlines", "\u2603 snow")
    assert batch["target_lengths"].tolist() == [3, 0, 0]
    assert batch["targets"].tolist() == [vocabulary.characters[c] for c in "abc"]


def test_the_encoder_of_pretraining_is_the_model_s(learner: Learner) -> None:
    views = torch.from_numpy(np.stack([line.view for line in lines("a", "b")]))
    with torch.no_grad():
        _, tokens = learner.encode(views)
        rgb = views[..., None].expand(-1, -1, -1, 3)
        features = learner.ocr.encode_images({VIEW_SIZE: rgb}, [pretrain.LAYOUT] * 2)
    per_image = features.view(2, GRID * (GRID + 1) + 1, -1)[:, :-1].view(2, GRID, GRID + 1, -1)[:, :, :-1]
    torch.testing.assert_close(tokens.view_as(per_image), per_image, rtol=0, atol=1e-5)


def test_a_ctc_head_answers_for_its_slots_column_by_column() -> None:
    torch.manual_seed(0)
    head = CtcHead(channels=8, rows=4, slots=3, classes=11)
    features = torch.randn(2, 4, 5, 8)
    logits = head(features)
    assert logits.shape == (2, 15, 11)
    features[:, :, 2] += 1  # only the third column's slots may change
    changed = (head(features) != logits).any(-1).any(0).nonzero().flatten().tolist()
    assert changed == [6, 7, 8]


def test_ctc_loss_is_per_character_of_the_lines_with_targets() -> None:
    torch.manual_seed(0)
    logits, lengths = torch.randn(3, 12, 7), torch.tensor([2, 0, 3])
    targets = torch.tensor([1, 2, 3, 3, 4])
    singles = [
        torch.nn.functional.ctc_loss(
            logits[row].log_softmax(-1)[:, None], part[None], [12], [len(part)], reduction="sum"
        )
        for row, part in ((0, targets[:2]), (2, targets[2:]))
    ]
    torch.testing.assert_close(ctc_loss(logits, targets, lengths), sum(singles) / 5)


def test_masters_take_the_step_that_adamw_takes_in_float32() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(4, 3)
    low = torch.nn.Linear(4, 3).bfloat16()
    masters = Masters(low, lr=1e-2, weight_decay=0.1)
    with torch.no_grad():
        for master, weight in zip(masters.masters, plain.parameters(), strict=True):
            master.copy_(weight)
        masters.publish()
    oracle = torch.optim.AdamW(
        [{"params": [plain.weight], "weight_decay": 0.1}, {"params": [plain.bias], "weight_decay": 0.0}],
        lr=1e-2,
        betas=(0.9, 0.98),
    )
    for _ in range(3):
        grads = [0.1 * torch.randn_like(p).bfloat16() for p in plain.parameters()]
        for weight, mine, grad in zip(plain.parameters(), low.parameters(), grads, strict=True):
            weight.grad, mine.grad = grad.float(), grad
        oracle.step()
        masters.step(1e-2)
    for master, weight, mine in zip(masters.masters, plain.parameters(), low.parameters(), strict=True):
        torch.testing.assert_close(master.detach(), weight.detach())
        assert torch.equal(mine, master.bfloat16())


@given(st.text(alphabet="abc档", max_size=12), st.text(alphabet="abc档", max_size=12))
def test_edit_distance_is_levenshtein(a: str, b: str) -> None:
    assert pretrain.edit_distance(a, b) == Levenshtein.distance(a, b)


def test_the_curriculum_rises_with_accuracy_and_at_the_latest_with_time() -> None:
    level = get_context("spawn").Value("d", 0.0)
    curriculum = pretrain.Curriculum(level)
    assert curriculum.update(0.0, share=0.05) == 0.0
    for _ in range(40):
        curriculum.update(0.9, share=0.05)
    read = level.value
    assert 0.2 < read < 1
    assert curriculum.update(0.0, share=0.56) == 1.0


def test_the_learning_rate_warms_up_holds_and_falls_to_zero(tmp_path: Path) -> None:
    values = settings(tmp_path, lr=1.0, warmup_steps=10, decay_share=0.5)
    rates = [
        pretrain.learning_rate(values, step, share) for step, share in ((4, 0), (99, 0.3), (99, 0.75), (99, 1))
    ]
    assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_a_stage_trains_saves_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vocabulary: Vocabulary
) -> None:
    batch = batch_of(tmp_path, vocabulary, "ab", "cd")
    monkeypatch.setattr(pretrain.RenderedLines, "__iter__", lambda self: iter([dict(batch) for _ in range(40)]))
    views = np.stack([line.view for line in lines("ab", "cd")])
    np.savez(
        tmp_path / "heldout.npz", views=views, texts=np.array(["ab", "cd"]), scripts=np.array(["latin"] * 2)
    )
    run = pretrain.Run(settings(tmp_path, minutes=1e-3, warmup_steps=1, look_every=3))
    before = {name: tensor.clone() for name, tensor in run.learner.ocr.state_dict().items()}
    run.train()  # ends at the first look at the clock
    assert run.step == 3
    assert any(not torch.equal(before[name], tensor) for name, tensor in run.learner.ocr.state_dict().items())
    record = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert record["step"] == 3
    assert set(record["cer"]) == {"latin"}

    saved = load_model(str(tmp_path / "run" / "model"), dtype=torch.bfloat16)
    assert saved.config.router_aux_loss_alpha == 0
    processor = load_processor(str(tmp_path / "run" / "model"))
    assert processor.tokens.image == saved.config.image_token_id
    assert processor.settings == load_processor("nano").settings

    again = pretrain.Run(settings(tmp_path, minutes=1e-3))
    assert (again.step, again.seen) == (3, 6)
    for mine, theirs in zip(again.masters.masters, run.masters.masters, strict=True):
        assert torch.equal(mine, theirs)
