"""The peers compute what ours computes, so that their times are times of the same work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.peers import make_decoder, make_peer
from benchmarks.reference import native_transformers
from benchmarks.reference.per_expert import PerExpertPeer, per_expert_copy
from benchmarks.workloads import WORKLOADS, make_batches
from torch import Tensor

from ocrsmith.model.ocr_model import Checkpointing, OcrModel

native = pytest.mark.skipif(
    not native_transformers.is_available(), reason="needs transformers with UnlimitedOcr (5.23)"
)
PEERS = ["r1", pytest.param("r2", marks=native)]


@pytest.fixture(scope="module")
def lines() -> dict[str, Any]:
    return make_batches("tiny", WORKLOADS["L"], 2, 1)[0]


@pytest.fixture(scope="module")
def pages() -> dict[str, Any]:
    """A line and tiles in one batch, with few tiles of few pixels."""
    generator = torch.Generator().manual_seed(0)
    layouts = [(192, 128, 2, 1), (192, 0, 0, 0)]
    views = {
        size: torch.randint(0, 256, (2, size, size, 3), generator=generator, dtype=torch.uint8)
        for size in (128, 192)
    }
    from benchmarks.workloads import make_config

    image = make_config("tiny").image_token_id
    tokens = [2 * (2 * 2 + 1) + 3 * 4 + 1, 3 * 4 + 1]
    length = 1 + max(tokens) + 8
    rows, labels = [], []
    for count in tokens:
        row = [0] + [image] * count
        row += torch.randint(3, 7000, (length - len(row),), generator=generator).tolist()
        rows.append(row)
        labels.append([-100] * (length - 6) + row[-6:])
    targets = torch.tensor(labels)
    learned = torch.zeros_like(targets, dtype=torch.bool)
    learned[:, :-1] = targets[:, 1:] != -100
    return {
        "input_ids": torch.tensor(rows),
        "attention_mask": torch.ones(2, length, dtype=torch.long),
        "labels": targets,
        "label_rows": learned.flatten().nonzero().flatten(),
        "views": views,
        "image_layouts": layouts,
    }


def loss_of(peer: Any, batch: dict[str, Any]) -> Tensor:
    return peer.loss(batch, peer.encode(batch))


def test_r1_has_a_module_and_an_adapter_for_every_expert(model: OcrModel) -> None:
    sizes = model.config.decoder_sizes
    moe_layers = sizes.num_hidden_layers - 1
    peer = PerExpertPeer(model)
    pairs = [name for name, _ in peer.model.named_parameters() if "lora_A" in name]
    assert len(pairs) == 4 * sizes.num_hidden_layers + 3 + moe_layers * 3 * (sizes.n_routed_experts + 1)
    assert not [name for name in pairs if "sam_model" in name or "vision_model" in name]


@torch.no_grad()
def test_r1_gives_the_same_features_and_logits(model: OcrModel, pages: dict[str, Any]) -> None:
    reference = per_expert_copy(model)
    theirs = reference.encode_images(pages["views"], pages["image_layouts"])
    ours = model.encode_images(pages["views"], pages["image_layouts"])
    torch.testing.assert_close(torch.cat(theirs), ours, atol=2e-5, rtol=1e-4)
    _, logits = reference(pages["input_ids"], pages["labels"], theirs)
    expected = model(input_ids=pages["input_ids"], image_features=ours).logits
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("scene", ["lines", "pages"])
def test_a_peer_has_our_loss(name: str, scene: str, model: OcrModel, request: pytest.FixtureRequest) -> None:
    batch = request.getfixturevalue(scene)
    peer = make_peer(name, model)
    theirs = loss_of(peer, batch).item()
    assert theirs == pytest.approx(loss_of(make_peer("ours", model), batch).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["ours", *PEERS])
@pytest.mark.parametrize("checkpointing", ["none", "full"])
def test_a_peer_trains_its_adapter_and_nothing_else(
    name: str, checkpointing: Checkpointing, model: OcrModel, lines: dict[str, Any]
) -> None:
    peer = make_peer(name, model, checkpointing=checkpointing)
    peer.model.train()
    features = peer.encode(lines)
    before = peer.loss(lines, features)
    before.backward()
    parameters = dict(peer.model.named_parameters())
    reached = {name for name, p in parameters.items() if p.grad is not None}
    adapters = {name for name in parameters if "lora_" in name}
    assert reached <= adapters
    assert all(".experts." in name for name in adapters - reached), "only experts that no token chose"
    torch.optim.AdamW([p for p in parameters.values() if p.requires_grad], lr=0.01).step()
    assert peer.loss(lines, features) < before


@native
def test_r2_leaves_the_encoder_out_of_checkpointing(model: OcrModel, lines: dict[str, Any]) -> None:
    peer = make_peer("r2", model, checkpointing="full")
    peer.model.train()
    calls = []
    layer = peer.bare.model.vision_tower.sam_encoder.layers[0]  # type: ignore[attr-defined]
    layer.attn.register_forward_hook(lambda *_: calls.append(1))
    loss_of(peer, lines).backward()
    assert len(calls) == 1


@native
@pytest.mark.parametrize("adapter", ["none", "merged", "unmerged"])
def test_r2_writes_the_same_tokens(adapter: str, model: OcrModel) -> None:
    (batch,) = make_batches("tiny", WORKLOADS["L"], 2, 1, answers=False)
    theirs = make_decoder("r2", model, adapter).generate(batch, 6)
    ours = make_decoder("ours", model, adapter).generate(batch, 6)
    assert theirs.shape == (2, 6)
    assert torch.equal(theirs, ours)
