"""API keys and rate limits: both only where the operator has set some."""

import hmac
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.problems import Unauthorized
from service.rate_limit import client_of_address, client_of_key
from service.services import ServicesDep

bearer_scheme = HTTPBearer(auto_error=False, description="An API key, where the service asks for one.")
header_scheme = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same key in a header of its own.")


async def require_key(
    services: ServicesDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(bearer_scheme)],
    header: Annotated[str | None, Security(header_scheme)],
) -> None:
    """Dependency of the guarded routes. Raises `Unauthorized`."""
    keys = [key.get_secret_value() for key in services.settings.api_keys]
    if keys and not is_known(bearer.credentials if bearer else header or "", keys):
        raise Unauthorized


async def limit_rate(
    request: Request,
    services: ServicesDep,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(bearer_scheme)],
    header: Annotated[str | None, Security(header_scheme)],
) -> None:
    """Dependency of routes that cost the workers something; after `require_key`. Raises `TooManyRequests`."""
    if services.settings.api_keys:
        client = client_of_key(bearer.credentials if bearer else header or "")
    else:
        client = client_of_address(request.client.host if request.client else "")
    await services.rate_limiter.check(client)


def is_known(offered: str, keys: list[str]) -> bool:
    """Whether `offered` is one of the keys. Takes as long for a near miss as for a far one."""
    matches = [hmac.compare_digest(offered.encode(), key.encode()) for key in keys]
    return any(matches)
