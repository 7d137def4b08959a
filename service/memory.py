"""What one process holds of pictures, and files that it holds no longer than it must."""

import weakref


class Memory:
    """A bound on the bytes of pictures that a process holds at one time."""

    def __init__(self, limit: int) -> None:
        """`limit` in bytes."""
        self._limit = limit
        self._held = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits."""
        return self._held >= self._limit

    def take(self, size: int) -> bool:
        """Counts `size` bytes as held, if they fit; one picture fits whatever its size if nothing else is held."""
        if self._held and self._held + size > self._limit:
            return False
        self.hold(size)
        return True

    def hold(self, size: int) -> None:
        """Counts `size` bytes as held, which are there already."""
        self._held += size

    def give_back(self, size: int) -> None:
        """Counts `size` bytes as gone."""
        self._held -= size


class Content:
    """A file, and its part of a process's memory.

    An upload is let go once it is in the queue: a request may wait for its picture for a minute. A request that ends
    before, however it ends, lets go of it too.
    """

    def __init__(self, data: bytes, memory: Memory) -> None:
        """`data` counts as held already."""
        self.data = data
        self._gone = weakref.finalize(self, memory.give_back, len(data))
        self._gone.atexit = False

    def release(self) -> None:
        """Nobody needs it any more."""
        self.data = b""
        self._gone()
