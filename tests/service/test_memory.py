"""What a process holds of pictures."""

import gc

import pytest

from service.answers import HeldPicture
from service.memory import Content, Memory
from worker.contract import PictureFormat

pytestmark = pytest.mark.anyio


def test_what_does_not_fit_is_not_taken_unless_it_is_alone() -> None:
    memory = Memory(10)
    assert memory.take(30)
    assert not memory.take(1)
    memory.give_back(30)
    assert [memory.take(6), memory.take(4), memory.take(1)] == [True, True, False]


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_an_upload_that_is_let_go_makes_room_once(is_forgotten: bool) -> None:
    memory = Memory(10)
    assert memory.take(7)
    content = Content(b"7 bytes", memory)
    content.release()
    assert content.data == b""
    if is_forgotten:
        del content
        gc.collect()
    assert memory.take(10)
    assert not memory.take(1)


async def test_a_result_is_held_until_the_client_has_read_it() -> None:
    memory = Memory(10)
    assert memory.take(7)
    fits, sent = [], b""

    async def receive() -> dict[str, str]:
        raise AssertionError("there is nothing to be asked")

    async def send(message: dict[str, object]) -> None:
        nonlocal sent
        fits.append(memory.take(4))
        body = message.get("body", b"")
        assert isinstance(body, bytes)
        sent += body

    response = HeldPicture(Content(b"picture", memory), PictureFormat.PNG, {"ETag": '"1"'})
    await response({"type": "http"}, receive, send)  # type: ignore[arg-type]
    assert (sent, fits) == (b"picture", [False] * 3)
    assert response.headers["content-length"] == "7"
    assert memory.take(10)
