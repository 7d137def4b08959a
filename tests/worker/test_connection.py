"""Which answers of Redis pass, by Redis's own words."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import MasterDownError, OutOfMemoryError, ReadOnlyError, ResponseError

from tests.redis_server import RedisServer
from worker import connection as module
from worker.connection import connect, retry_until_available
from worker.errors import StartError

PASSING = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "READONLY", "OOM", "UNBLOCKED", "BUSY")


def refuse(connection: Redis, code: str) -> Any:
    return connection.eval(f"return redis.error_reply('{code} it says why')", 0)


def refuse_in_a_transaction(connection: Redis, code: str) -> Any:
    with connection.pipeline() as pipe:
        pipe.ping()
        refuse(pipe, code)
        return pipe.execute()


@pytest.mark.parametrize("code", PASSING)
@pytest.mark.parametrize("refuse", [refuse, refuse_in_a_transaction])
def test_what_passes_is_waited_for(
    connection: Redis, monkeypatch: pytest.MonkeyPatch, refuse: Callable[[Redis, str], Any], code: str
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0)
    refusals = [code]

    def call() -> str:
        if refusals:
            refuse(connection, refusals.pop())
        return "done"

    assert retry_until_available(call, threading.Event(), 0) == "done"


def test_the_connection_to_a_redis_that_became_a_replica_is_not_used_again(redis: RedisServer) -> None:
    with connect(redis.url) as connection:
        before = connection.client_id()
        connection.replicaof("127.0.0.1", 1)
        with pytest.raises(ReadOnlyError):
            connection.set("key", "value")
        assert connection.client_id() != before


@pytest.mark.parametrize(
    ("code", "kind"), [("READONLY", ReadOnlyError), ("OOM", OutOfMemoryError), ("MASTERDOWN", MasterDownError)]
)
def test_what_redis_6_says_of_scripts_is_what_it_means(
    redis: RedisServer, code: str, kind: type[ResponseError]
) -> None:
    with connect(redis.url) as connection:
        before = connection.client_id()
        with pytest.raises(kind):
            refuse(connection, f"ERR Error running script (call to f_0): @user_script:7: @user_script: 7: -{code}")
        assert (connection.client_id() != before) is (kind is ReadOnlyError)


@pytest.mark.parametrize("password", ["s3cr3t/word", "s3cr3t?word", "s3cr3t#word"])
def test_a_url_that_is_none_is_refused_without_its_password(password: str) -> None:
    with pytest.raises(StartError, match="IMPASTO_REDIS_URL") as refused:
        connect(f"redis://:{password}@host:6379/0")
    assert "s3cr3t" not in f"{refused.value} {refused.value.__cause__}"


@pytest.mark.parametrize("code", ["WRONGTYPE", "BUSYGROUP"])
def test_a_fault_of_ours_is_none_that_passes(connection: Redis, code: str) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(ResponseError, match=code):
        retry_until_available(lambda: refuse(connection, code), stop, 0)
