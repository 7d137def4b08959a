"""Clients that go on asking for pictures while things happen to the service."""

import asyncio
import itertools
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import httpx

from tests.pictures import decode, draw_photo, encode

CLIENTS = 3
PAUSE_S = 0.05
"""Between two requests of a client: the load is to be light."""


@dataclass
class Tally:
    """What the clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    """Answers of 503, by the type of their problem."""
    faults: list[str] = field(default_factory=list)
    """Requests that failed in a way that they should not."""


class Load:
    """A thread of clients, from `with` to its end."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._numbers = itertools.count()
        self.tally = Tally()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        async with httpx.AsyncClient(base_url=self._address, timeout=120) as client:
            await asyncio.gather(*(self._ask_on(client) for _ in range(CLIENTS)))

    async def _ask_on(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            try:
                self._note(number, await _ask(client, number))
            except httpx.HTTPError as error:
                self.tally.faults.append(f"request {number}: {error!r}")
            await asyncio.sleep(PAUSE_S)

    def _note(self, number: int, answer: httpx.Response) -> None:
        self.tally.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            self.tally.refusals[answer.json()["type"]] += 1
        fault = _fault(number, answer)
        if fault:
            self.tally.faults.append(f"request {number}: {answer.status_code} {fault}")


def photo(number: int) -> bytes:
    """Every fourth picture is the same, so that a cache has something to find."""
    image = draw_photo(96, 72)
    if number % 4:
        image.putpixel((0, 0), (number % 256, number // 256 % 256, 0))
    return encode(image)


async def _ask(client: httpx.AsyncClient, number: int) -> httpx.Response:
    if number % 13 == 12:
        return await client.post("/stylize", params={"style": "nobody-has-it"}, content=photo(number))
    if number % 5 == 4:
        return await client.post("/upscale", params={"factor": 2}, content=photo(number))
    return await client.post("/stylize", params={"style": ("red", "blue")[number % 2]}, content=photo(number))


def _fault(number: int, answer: httpx.Response) -> str:
    """What is wrong with an answer; nothing with a picture, with a refusal of what cannot be, and an honest 503."""
    if answer.status_code == 200:
        picture = decode(answer.content)
        factor = 2 if answer.request.url.path == "/upscale" else 1
        return "" if picture.height == 72 * factor else f"a picture of {picture.size}"
    if answer.status_code == 404 and number % 13 == 12:
        return ""
    if answer.status_code == 503 and int(answer.headers.get("Retry-After", 0)) > 0:
        return ""
    return answer.text[:300]
