"""The arithmetic floor, against figures worked out elsewhere and by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmarks.floor import (
    H200_FLOPS,
    active_weights,
    adapter_weights,
    count_operations,
    decode_floor_seconds,
    encoder_operations,
    floor_seconds,
)
from benchmarks.workloads import WORKLOADS, make_config

from ocrsmith.model.config import DecoderSizes

L, P = WORKLOADS["L"], WORKLOADS["P"]
BIG = make_config("3b")


def test_active_weights_by_hand() -> None:
    sizes = DecoderSizes(
        hidden_size=8,
        intermediate_size=10,
        moe_intermediate_size=4,
        num_hidden_layers=3,
        num_attention_heads=2,
        n_routed_experts=5,
        n_shared_experts=1,
        num_experts_per_tok=2,
    )
    attention, dense, mixture = 4 * 64, 3 * 80, 3 * (3 * 32) + 5 * 8
    assert active_weights(sizes) == 3 * attention + dense + 2 * mixture
    assert adapter_weights(sizes, 2) == 2 * (3 * 4 * 16 + 3 * 18 + 2 * (2 * 3 * 12 + 3 * 12))
    assert active_weights(replace(sizes, first_k_dense_replace=3)) == 3 * (attention + dense)


def test_the_decoder_has_570_million_active_weights() -> None:
    sizes = BIG.decoder_sizes
    head = sizes.hidden_size * sizes.vocab_size
    assert active_weights(sizes) + head == pytest.approx(570e6, rel=0.02)


@pytest.mark.parametrize(("workload", "milliseconds"), [(L, 1.44), (P, 4.38)], ids="LP")
def test_the_encoder_takes_what_was_worked_out_before(workload: object, milliseconds: float) -> None:
    operations = encoder_operations(BIG, workload, "3b")  # type: ignore[arg-type]
    assert 1000 * operations / H200_FLOPS == pytest.approx(milliseconds, rel=0.03)


@pytest.mark.parametrize(("workload", "seconds"), [(L, 0.019), (P, 0.084)], ids="LP")
def test_a_step_takes_what_was_worked_out_before(workload: object, seconds: float) -> None:
    assert floor_seconds(BIG, workload, "3b") == pytest.approx(seconds, rel=0.12)  # type: ignore[arg-type]


def test_what_a_cache_saves_and_checkpointing_costs() -> None:
    plain = count_operations(BIG, P, "3b")
    cached = count_operations(BIG, P, "3b", cached=True)
    twice = count_operations(BIG, P, "3b", checkpointing=True)
    assert plain.total - cached.total == plain.encoder > 0
    assert (
        twice.total - plain.total == twice.again == plain.decoder / 2 + plain.attention / 3 + plain.adapter / 3
    )


def test_decoding_reads_more_experts_with_a_batch() -> None:
    assert 1000 * decode_floor_seconds(BIG, 1, 300) == pytest.approx(0.28, rel=0.07)
    assert 1.3 < 1000 * decode_floor_seconds(BIG, 32, 300) < 1.8
