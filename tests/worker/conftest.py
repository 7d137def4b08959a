"""What tests of the worker share."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.redis_server import RedisServer
from tests.worker.running import Client


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def connection(redis: RedisServer) -> Iterator[Redis]:
    with redis.connect() as connection:
        yield connection


@pytest.fixture
def client(connection: Redis) -> Client:
    return Client(connection)
