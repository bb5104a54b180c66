"""Every flag of the command is one that the real vLLM knows; for an environment that has it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ocrsmith.serving.vllm.command import MODULE, vllm_command

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


def unknown_flags(command: list[str], help_text: str) -> set[str]:
    """Flags of a command that a program's `--help=all` does not list."""
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", help_text))
    return {word for word in command if word.startswith("--")} - known


def test_vllm_knows_every_flag() -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", MODULE, "--help=all"], capture_output=True, text=True, check=True
    ).stdout
    adapters = {"a": Path("/a")}
    everything = vllm_command(
        "/m", name="m", context=8192, adapters=adapters, rank=8, gpu_memory_utilization=0.5, eager=True
    )
    for command in (everything, vllm_command("/m", name="m", context=8192, socket=Path("/s"))):
        assert unknown_flags(command, help_text) == set()
