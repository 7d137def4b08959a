"""How this process's heap deals with what is freed."""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
"""glibc's numbers of `mallopt`'s parameters."""
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Lets the heap keep what is freed, for the next step needs as much again.

    The GNU C library gives large blocks back to the system at once. The next step gets them again page by page, each of
    them cleared: of a step of four pictures of 192 px that was a quarter of the time. Other libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _MOST), (_TOP_PAD, 2**26), (_ARENA_MAX, 1)):
        mallopt(parameter, value)
