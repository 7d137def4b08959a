"""Ending of asyncio tasks."""

import asyncio
from typing import Any

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
