"""The choice of fast paths."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ocrsmith.model import kernels


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    kernels.triton_works.cache_clear()
    yield
    kernels.triton_works.cache_clear()


def test_triton_needs_a_c_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(kernels.shutil, "which", lambda name: None)
    assert not kernels.triton_works()
    kernels.triton_works.cache_clear()
    monkeypatch.setattr(kernels.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "clang" else None)
    assert kernels.triton_works()


def test_a_choice_holds_for_its_block() -> None:
    before = kernels.choice.experts
    with kernels.using(experts="loop", compiled=True):
        assert (kernels.choice.experts, kernels.choice.compiled) == ("loop", True)
    assert (kernels.choice.experts, kernels.choice.compiled) == (before, False)


def test_a_choice_ends_with_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), kernels.using(experts="loop"):
        _ = 1 / 0
    assert kernels.choice.experts == "auto"


def test_a_cpu_has_no_use_for_gpu_kernels() -> None:
    assert not kernels.has_triton(torch.zeros(2))
    assert kernels.expert_path(torch.zeros(2)) in ("grouped", "loop")
    assert kernels.expert_path(torch.zeros(2, dtype=torch.float64)) == "loop"
