"""HEAD, as RFC 9110 wants it from every server: balancers and monitors ask with it whether a process is well."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


def answers_head(path: str) -> bool:
    """Whether HEAD is answered where GET is. Streams of events, which end at some other time, are left out."""
    return not path.endswith("/events")


class HeadMiddleware:
    """Answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection, as ASGI asks."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or not answers_head(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            scope["method"] = "HEAD"  # the server must not miss the body, nor the metrics the method
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # In place, or those outside would not see which route took it.
        scope["method"] = "GET"
        await self._app(scope, receive, send_without_body)
