"""Ending of asyncio tasks, and work that is not ended."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

AGAIN_S = 0.1


async def end(task: asyncio.Task[Any]) -> None:
    """Cancels a task and returns when it is done; what it raises is dropped.

    One cancellation is not enough: until Python 3.12 `asyncio.wait_for`, through which redis-py sends its commands,
    swallows one that comes just as the sending is done.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=AGAIN_S)
    if not task.cancelled():
        task.exception()


async def complete(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises. Whoever is cancelled meanwhile goes when it is done, not before."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    await end(task)
    raise cancelled


def shared(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that several wait for, with `asyncio.shield`; what it raises is dropped when none of them is left."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
