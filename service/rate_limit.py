"""How many pictures one client may ask for: a token bucket that all service processes share."""

import hashlib
import logging
import math
from ipaddress import IPv6Address, IPv6Network, ip_address

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from service.problems import TooManyRequests
from worker.contract import rate_key

logger = logging.getLogger(__name__)

SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local apart, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + apart
local wait = full_at - now - burst * apart
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return 0
"""
"""Takes a token, or says in how many microseconds there will be one.

The bucket is kept as the moment at which it will be full again, so that idle clients leave nothing behind. Redis's
clock counts, because those of the service's machines differ.
"""
IPV6_NETWORK = 64
"""Bits of an IPv6 address that stand for one client: everyone gets as many addresses as this leaves."""


class RateLimiter:
    """Lets a client through as often as its allowance says. While Redis is away everyone is let through."""

    def __init__(self, redis: aioredis.Redis, per_second: float, burst: int) -> None:
        """`per_second`: tokens a bucket gets, 0 for no limit; `burst`: tokens it holds."""
        self._redis = redis
        self._per_second = per_second
        self._burst = burst

    @property
    def has_limit(self) -> bool:
        """Whether clients need tokens at all."""
        return self._per_second > 0

    async def check(self, client: str) -> None:
        """Takes a token of that client. Raises `TooManyRequests`."""
        if not self.has_limit:
            return
        try:
            reply = await self._redis.eval(SCRIPT, 1, rate_key(client), round(1e6 / self._per_second), self._burst)
        except (RedisError, OSError) as error:
            # What needs Redis answers 503 in a moment.
            logger.debug("the rate limit cannot be read: %s", error)
            return
        if int(reply) > 0:
            raise TooManyRequests(math.ceil(int(reply) / 1e6))


def client_of_key(api_key: str) -> str:
    """A name for who has this API key, which does not tell the key."""
    return f"key:{hashlib.sha256(api_key.encode()).hexdigest()[:32]}"


def client_of_address(address: str) -> str:
    """A name for who has this address; one for all the addresses of an IPv6 network."""
    try:
        parsed = ip_address(address)
    except ValueError:  # a socket file, say
        return "address:unknown"
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return f"address:{mapped or IPv6Network((parsed, IPV6_NETWORK), strict=False).network_address}"
    return f"address:{parsed}"
