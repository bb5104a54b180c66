"""Freed memory of this process kept for what comes next."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h
_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Lets the C library keep what is freed, in place of giving it back to the system and asking for it anew.

    A training step on a CPU frees and takes gigabytes, in pieces that glibc maps one by one; each new page is
    then zeroed on its first use, which takes longer than most element-wise operations themselves. It holds for
    the whole process, which keeps its peak memory until it ends: for commands, not for a library's user.

    Returns:
        whether it was done; only glibc (Linux) has the switch.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return all(
        mallopt(option, value) == 1
        for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, _PAD_BYTES))
    )
