"""Errors -> `application/problem+json`."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Mount

from service.head_requests import answers_head
from service.metrics import METHODS
from service.problems import MEDIA_TYPE, BadParameter, InternalError, MethodNotAllowed, NotFound, Problem
from service.services import services_of

logger = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499
"""nginx's code, for the log and the metrics: nobody is there to read the answer."""
LOGGED = frozenset({HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.GATEWAY_TIMEOUT})
"""Faults of ours, and pictures that came too late: what clients report, and the log must be able to explain."""


def install(app: FastAPI) -> None:
    """Registers the handlers; before any middleware is added, so that the answers to faults pass all of it."""
    app.exception_handler(Problem)(answer_problem)
    app.exception_handler(RequestValidationError)(answer_validation)
    app.exception_handler(HTTPException)(answer_http)
    app.exception_handler(ClientDisconnect)(answer_disconnect)
    # Starlette's own is outside of all other middleware, and its answers have none of its headers.
    app.add_middleware(ServerErrorMiddleware, handler=answer_unexpected)


def render(problem: Problem) -> Response:
    """The problem as a response."""
    return JSONResponse(problem.document(), problem.status, problem.headers(), MEDIA_TYPE)


async def answer_problem(request: Request, error: Problem) -> Response:
    """Answers a `Problem`, counts it, and logs it if it is in `LOGGED`."""
    if error.status in LOGGED:
        job_id = error.extensions.get("job_id", "none")
        logger.error("request %s, job %s: %s (%s)", _request_id(request), job_id, error.title, error.type)
    return _count(request, error)


async def answer_validation(request: Request, error: RequestValidationError) -> Response:
    """Answers FastAPI's own refusal of a parameter as `BadParameter`."""
    reasons = [(_parameter(entry["loc"]), _reason(entry)) for entry in error.errors()]
    return await answer_problem(request, BadParameter.because(reasons))


async def answer_http(request: Request, error: HTTPException) -> Response:
    """Answers Starlette's own errors: no such address, or no such method there."""
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response = await answer_problem(request, MethodNotAllowed("The method is not served here; see /docs."))
    elif error.status_code == HTTPStatus.NOT_FOUND:
        response = await answer_problem(request, NotFound("Nothing is served at this address; see /docs."))
    else:
        title = HTTPStatus(error.status_code).phrase
        content = {"type": "about:blank", "title": title, "status": error.status_code, "detail": error.detail}
        response = JSONResponse(content, error.status_code, media_type=MEDIA_TYPE)
    response.headers.update(error.headers or {})
    if "allow" in response.headers:
        response.headers["Allow"] = ", ".join(_methods(request)) or response.headers["Allow"]
    return response


async def answer_disconnect(request: Request, error: ClientDisconnect) -> Response:
    """The client went away before its upload was complete."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """Answers a fault of ours. Starlette raises the exception again, and the server logs it."""
    logger.error("request %s failed: %r", _request_id(request), error)
    return _count(request, InternalError())


def _count(request: Request, problem: Problem) -> Response:
    services_of(request).metrics.refusals.labels(problem.slug).inc()
    return render(problem)


def _request_id(request: Request) -> str:
    return getattr(request.state, "request_id", "")


def _methods(request: Request) -> list[str]:
    """All methods of the address, where Starlette names those of one route; none for files, which name them."""
    scope = request.scope
    root = scope.get("app_root_path", scope.get("root_path", ""))
    asked = {"type": "http", "path": scope["path"], "root_path": root, "headers": []}
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    methods = {
        name for name in METHODS if any(route.matches({**asked, "method": name})[0] is Match.FULL for route in routes)
    }
    if "GET" in methods and answers_head(scope["path"]):
        methods.add("HEAD")
    return sorted(methods)


def _parameter(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location[1:])) or str(location[0])


def _reason(entry: dict[str, object]) -> str:
    if entry["type"] == "missing":
        return "it is missing from the query string"
    if entry["type"] == "extra_forbidden":
        return "there is no such parameter; see /docs"
    reason = str(entry["msg"]).removeprefix("Value error, ")
    return f"{reason[0].lower()}{reason[1:]} (got {str(entry['input'])[:64]!r})"
