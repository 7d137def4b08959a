"""`impasto doctor`: what it says of a machine that is well, and of what is wrong with others."""

import json
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import RedisServer, free_port
from tests.worker.command import Command, Ran
from tests.worker.running import running_worker


@pytest.fixture
def impasto(tmp_path: Path, small_zoo: Path) -> Command:
    return Command(tmp_path, small_zoo)


def findings(ran: Ran) -> dict[str, dict[str, Any]]:
    """By subject; of several with one subject the worst."""
    worst: dict[str, dict[str, Any]] = {}
    rank = ["good", "doubtful", "bad"]
    for finding in json.loads(ran.text)["findings"]:
        before = worst.setdefault(finding["subject"], finding)
        if rank.index(finding["verdict"]) > rank.index(before["verdict"]):
            worst[finding["subject"]] = finding
    return worst


def test_a_machine_that_is_well(impasto: Command) -> None:
    settings = {"PORT": str(free_port()), "MAX_QUEUE": "17"}
    ran = impasto.run("doctor", settings=settings)
    assert ran.status == 0, ran.text
    for word in ("torch ", "IMPASTO_MAX_QUEUE", "max_queue 17", "cpu", "red", "x2", "painted in blue in", "GB free"):
        assert word.lower() in ran.text.lower(), word
    assert ran.text.rstrip().endswith("Nothing is wrong.")
    assert ran.said == ""

    found = findings(impasto.run("doctor", "--json", settings=settings))
    assert json.loads(impasto.run("styles", "--json").text)["upscalers"][0]["digest"][:12] in found["upscalers"]["said"]
    assert {finding["verdict"] for finding in found.values()} <= {"good", "doubtful"}
    assert "serve" in found["Redis"]["said"]


def test_redis_and_its_workers(impasto: Command, small_zoo: Path, redis: RedisServer) -> None:
    with running_worker(redis.url, small_zoo):
        ran = impasto.run("doctor", "--json", settings={"REDIS_URL": redis.url, "PORT": "0"})
    found = findings(ran)
    assert ran.status == 0, ran.text
    assert "answers in" in found["Redis"]["said"]
    assert found["Redis memory"]["said"].startswith("noeviction")
    assert found["Redis files"]["verdict"] == "doubtful"
    assert found["workers"]["said"].startswith("1 alive")


def test_a_redis_that_refuses_the_password(impasto: Command, redis: RedisServer) -> None:
    with redis.connect() as connection:
        connection.config_set("requirepass", "another")
    url = redis.url.replace("redis://", "redis://:not-to-be-shown@")
    ran = impasto.run("doctor", settings={"REDIS_URL": url, "PORT": "0"})
    assert ran.status == 1
    assert "refuses the password" in ran.text
    assert "not-to-be-shown" not in ran.text + ran.said


def test_a_redis_that_throws_jobs_away(impasto: Command, redis: RedisServer) -> None:
    with redis.connect() as connection:
        connection.config_set("maxmemory-policy", "allkeys-lru")
    ran = impasto.run("doctor", "--json", settings={"REDIS_URL": redis.url, "PORT": "0"})
    found = findings(ran)
    assert ran.status == 1
    assert found["workers"]["verdict"] == "doubtful"
    assert found["Redis memory"]["verdict"] == "bad"
    assert "noeviction" in found["Redis memory"]["mend"]


def test_no_redis_where_one_should_be(impasto: Command) -> None:
    url = f"redis://:not-to-be-shown@127.0.0.1:{free_port()}/0"
    ran = impasto.run("doctor", settings={"REDIS_URL": url, "PORT": "0"})
    assert ran.status == 1
    assert "NO  Redis" in ran.text
    assert "cannot be used" in ran.text
    assert "1 thing is wrong." in ran.text
    assert "not-to-be-shown" not in ran.text
    assert "painted in" in ran.text, "what is wrong with one thing keeps it from none of the others"


def test_a_redis_url_that_is_none(impasto: Command) -> None:
    ran = impasto.run("doctor", "--json", settings={"REDIS_URL": "postgres://here", "PORT": "0"})
    assert ran.status == 1
    assert any("IMPASTO_REDIS_URL" in finding["said"] for finding in findings(ran).values())


def test_a_zoo_that_is_not_there_and_one_with_a_broken_file(impasto: Command, tmp_path: Path, small_zoo: Path) -> None:
    missing = impasto.run("doctor", "--zoo", "nowhere", settings={"PORT": "0"})
    assert missing.status == 1
    assert "nowhere" in missing.text

    zoo = Path(shutil.copytree(small_zoo, tmp_path / "zoo"))
    (zoo / "red.safetensors").write_bytes((zoo / "red.safetensors").read_bytes()[:-8])
    found = findings(impasto.run("doctor", "--json", "--zoo", str(zoo), settings={"PORT": "0"}))
    assert found["zoo"]["said"].startswith("red.safetensors is refused")
    assert found["zoo"]["verdict"] == "bad"
    assert "blue" in found["styles"]["said"]


def test_settings_that_nothing_reads_or_that_cannot_be_used(impasto: Command) -> None:
    (impasto.folder / ".env").write_text("IMPASTO_MAX_QEUE=4\n")
    typo = impasto.run("doctor", settings={"PORT": "0"})
    assert typo.status == 0
    assert "IMPASTO_MAX_QEUE is set, but nothing reads it." in typo.text
    assert "IMPASTO_MAX_QUEUE?" in typo.text

    wrong = impasto.run("doctor", settings={"PORT": "many"})
    assert wrong.status == 1
    assert "IMPASTO_PORT cannot be used" in wrong.text

    worker = impasto.run("doctor", settings={"PRECISION": "float7"})
    assert worker.status == 1
    assert "IMPASTO_PRECISION" in worker.said


def test_an_address_that_somebody_else_has(impasto: Command, redis: RedisServer) -> None:
    found = findings(impasto.run("doctor", "--json", settings={"PORT": str(redis.port)}))
    assert found["address"]["verdict"] == "doubtful"
    assert str(redis.port) in found["address"]["said"]


def test_an_address_where_no_http_is_spoken(impasto: Command) -> None:
    def greet(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            connection.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet, args=(listener,), daemon=True).start()
        found = findings(impasto.run("doctor", "--json", settings={"PORT": str(listener.getsockname()[1])}))
    assert found["address"]["verdict"] == "doubtful"
