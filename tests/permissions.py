"""Lets a test's subprocess feel file permissions as every user does, also where the tests run as root."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def _give_up_roots_powers() -> None:
    """Root passes over permissions by two of Linux's capabilities; without them it is bound like any owner.

    They are taken from the bounding set, so the program that is then started lacks them.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "root could not be bound by permissions")


def run_bound(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python with `words` in a process to which permissions apply.

    It reads the same files as the test does: the user stays the same, so a checkout below a private home is no
    obstacle, and a folder with mode 0o500 cannot be written to.
    """
    bind = _give_up_roots_powers if os.geteuid() == 0 else None
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, preexec_fn=bind, **options
    )


def run_command(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `ocrsmith` with `words` in a process to which permissions apply."""
    return run_bound("-m", "ocrsmith.cli.main", *words, **options)
