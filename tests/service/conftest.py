from collections.abc import Iterator

import pytest
from redis import Redis

from tests.redis_server import RedisServer
from tests.service.stand_in import report


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def _shared_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(_shared_redis: RedisServer) -> Iterator[Redis]:
    """A connection to an empty Redis."""
    connection = _shared_redis.connect()
    connection.flushall()
    yield connection
    connection.close()


@pytest.fixture
def redis_url(_shared_redis: RedisServer, redis: Redis) -> str:
    """Address of an empty Redis."""
    return _shared_redis.url


@pytest.fixture(scope="module")
def hypothesis_redis() -> Iterator[RedisServer]:
    """A server with a worker's report, for all examples of a test."""
    server = RedisServer()
    server.start()
    with server.connect() as connection:
        report(connection)
    yield server
    server.stop()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that the test may stop and start; not yet started."""
    server = RedisServer()
    yield server
    server.stop()
