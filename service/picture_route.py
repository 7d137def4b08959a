"""The routes that take pictures, as FastAPI describes them and quicker than it calls them."""

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast, get_type_hints

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from service.problems import BadParameter
from service.security import admit, bearer_scheme, header_scheme
from service.services import services_of

P = TypeVar("P", bound=BaseModel)


class PictureRoute(APIRoute):
    """A route whose function takes `request`, `parameters`, one model of the whole query, and `services`.

    It admits the client first (`service.security.admit`). FastAPI documents such a route as any other; to solve what
    one depends on, piece by piece for each request, took it a seventh of this process's time for a small picture.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request that this route was found for."""
        answer = cast("Callable[..., Coroutine[Any, Any, Response]]", self.endpoint)
        model: type[BaseModel] = get_type_hints(self.endpoint)["parameters"]

        async def handle(request: Request) -> Response:
            await admit(request, await bearer_scheme(request), await header_scheme(request))
            return await answer(request, read_query(request, model), services_of(request))

        return handle


def read_query(request: Request, model: type[P]) -> P:
    """The query as `model`. Raises `BadParameter` for what is given twice, or `RequestValidationError`."""
    items = request.query_params.multi_items()
    values = dict(items)
    if len(values) < len(items):
        times = Counter(name for name, _ in items)
        reasons = [
            (name[:64], f"it is given {count} times; give it once") for name, count in times.items() if count > 1
        ]
        raise BadParameter.because(reasons)  # one of the values would go unheard
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError([{**entry, "loc": ("query", *entry["loc"])} for entry in error.errors()]) from None
