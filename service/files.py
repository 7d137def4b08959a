"""Files that come with the service, for browsers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi.responses import Response
from starlette.staticfiles import StaticFiles


class FilesWithHeaders(StaticFiles):
    """A folder whose files are given with headers of their own."""

    def __init__(self, folder: Path, headers: Mapping[str, str]) -> None:
        """`headers`: of every file, also where it has not changed (304)."""
        super().__init__(directory=folder)
        self._headers = headers

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Adds the headers to what Starlette makes of a file."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(self._headers)
        return response
