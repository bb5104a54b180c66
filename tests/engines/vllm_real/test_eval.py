"""`ocrsmith eval --engine vllm` gives the figures of the native engine; run by `make test-vllm`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from .commands import READING, assert_same_evaluation, command_apart, evaluate

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


def test_vllm_gives_the_figures_of_the_native_engine(
    native_evaluation: Path, merged: Path, pages: Path, tmp_path: Path
) -> None:
    # else it would compile for minutes what runs for seconds
    run = partial(command_apart, VLLM_CPU_CI_ENV="1")
    by_vllm = evaluate(tmp_path / "eval", pages, "--engine", "vllm", "--model", str(merged), *READING, run=run)
    assert_same_evaluation(by_vllm, native_evaluation)
