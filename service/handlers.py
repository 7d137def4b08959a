"""Errors -> `application/problem+json`."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.common_headers import REQUEST_ID
from service.problems import MEDIA_TYPE, BadParameter, InternalError, MethodNotAllowed, NotFound, Problem
from service.services import services_of

logger = logging.getLogger(__name__)

CLIENT_CLOSED_REQUEST = 499
"""nginx's code, for the log and the metrics: nobody is there to read the answer."""


def install(app: FastAPI) -> None:
    """Registers the handlers."""
    app.exception_handler(Problem)(answer_problem)
    app.exception_handler(RequestValidationError)(answer_validation)
    app.exception_handler(HTTPException)(answer_http)
    app.exception_handler(ClientDisconnect)(answer_disconnect)
    app.exception_handler(Exception)(answer_unexpected)


def render(problem: Problem) -> Response:
    """The problem as a response."""
    return JSONResponse(problem.document(), problem.status, problem.headers(), MEDIA_TYPE)


async def answer_problem(request: Request, error: Problem) -> Response:
    """Answers a `Problem` and counts it."""
    services_of(request).metrics.refusals.labels(error.slug).inc()
    return render(error)


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
    return response


async def answer_disconnect(request: Request, error: ClientDisconnect) -> Response:
    """The client went away before its upload was complete."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """Answers a fault of ours. Starlette raises the exception again, and the server logs it."""
    request_id = getattr(request.state, "request_id", "")
    logger.error("request %s failed: %r", request_id, error)
    response = await answer_problem(request, InternalError())
    response.headers[REQUEST_ID] = request_id  # this answer does not pass the middleware
    return response


def _parameter(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location[1:])) or str(location[0])


def _reason(entry: dict[str, object]) -> str:
    if entry["type"] == "missing":
        return "it is missing from the query string"
    if entry["type"] == "extra_forbidden":
        return "there is no such parameter; see /docs"
    reason = str(entry["msg"]).removeprefix("Value error, ")
    return f"{reason[0].lower()}{reason[1:]} (got {str(entry['input'])[:64]!r})"
