"""API keys and rate limits: both only where the operator has set some."""

import hmac
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.problems import Unauthorized
from service.rate_limit import client_of_address, client_of_key
from service.services import Services, services_of

bearer_scheme = HTTPBearer(auto_error=False, description="An API key, where the service asks for one.")
header_scheme = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key in a header of its own.")


Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(bearer_scheme)]
Header = Annotated[str | None, Security(header_scheme)]


async def require_key(request: Request, bearer: Bearer, header: Header) -> None:
    """Dependency of the guarded routes. Raises `Unauthorized`."""
    _check_key(services_of(request), _offered(bearer, header))


async def admit(request: Request, bearer: Bearer, header: Header) -> None:
    """Dependency of guarded routes that cost the workers something. Raises `Unauthorized` or `TooManyRequests`."""
    services, offered = services_of(request), _offered(bearer, header)
    _check_key(services, offered)
    if not services.rate_limiter.has_limit:
        return
    if services.settings.api_keys:
        client = client_of_key(offered)
    else:
        client = client_of_address(request.client.host if request.client else "")
    await services.rate_limiter.check(client)


def _offered(bearer: HTTPAuthorizationCredentials | None, header: str | None) -> str:
    return bearer.credentials if bearer else header or ""


def _check_key(services: Services, offered: str) -> None:
    keys = [key.get_secret_value() for key in services.settings.api_keys]
    if keys and not is_known(offered, keys):
        raise Unauthorized


def is_known(offered: str, keys: list[str]) -> bool:
    """Whether `offered` is one of the keys. Takes as long for a near miss as for a far one."""
    matches = [hmac.compare_digest(offered.encode(), key.encode()) for key in keys]
    return any(matches)
