"""What OpenAPI cannot read off the routes' signatures: bodies of bytes, pictures, problems."""

from collections import defaultdict
from typing import Any

from service.problems import MEDIA_TYPE, Problem, ResultNotReady, Unauthorized
from worker.contract import PictureFormat

BYTES = {"type": "string", "format": "binary"}
STRING = {"type": "string"}

PROBLEM = {"$ref": "#/components/schemas/ProblemDocument"}
"""The schema that `JobDocument` brings into the document."""


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    # In the schema: an example beside it is what the page of the documentation would send unasked.
    schema = {**STRING, "examples": [example]}
    return {"name": name, "in": "header", "description": description, "schema": schema}


REQUEST_ID = _header("X-Request-Id", "A name for the request, for the log; the answer has it too.", "holiday-17")
PICTURE_REQUEST: dict[str, Any] = {
    "parameters": [
        _header(
            "Prefer",
            "`respond-async`: answer 202 at once, the picture comes from the job. With `wait=SECONDS`: answer with the "
            "picture if it is ready by then.",
            "respond-async, wait=5",
        ),
        _header("Accept", "Decides the file format where `format` does not.", "image/webp"),
        REQUEST_ID,
    ],
    "requestBody": {
        "required": True,
        "description": "The picture: its bytes (whatever the content type claims, the bytes decide) "
        "or a form with the field `file`.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": BYTES},
                    "additionalProperties": False,
                },
            },
            "image/*": {"schema": BYTES},
            "application/octet-stream": {"schema": BYTES},
        },
    },
}

PICTURE_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture.",
        "content": {picture_format.media_type: {"schema": BYTES} for picture_format in PictureFormat},
        "headers": {
            "Server-Timing": {"schema": STRING, "description": "Milliseconds in each stage."},
            "ETag": {"schema": STRING, "description": "Of upload, parameters and weights."},
            "Content-Disposition": {"schema": STRING, "description": "A name for the file."},
        },
    }
}

IF_NONE_MATCH: dict[str, Any] = {
    "parameters": [_header("If-None-Match", "The `ETag` of what the client has.", '"5f1c0e"')],
}
CACHE_STATUS = {
    "Cache-Status": {"schema": STRING, "description": "`impasto; hit` if the picture had been made before."}
}
ETAG = {"ETag": {"schema": STRING, "description": "Of the picture."}}
UNCHANGED_ANSWER: dict[int | str, dict[str, Any]] = {
    304: {
        "description": "To an `If-None-Match` that names the picture's `ETag`: the client has it.",
        "headers": ETAG,
    }
}

ACCEPTED = {
    "Location": {"schema": STRING, "description": "Where to ask for the job."},
    "Preference-Applied": {"schema": STRING, "description": "`respond-async`"},
}
CHALLENGE = {"WWW-Authenticate": {"schema": STRING, "description": "How a key is sent."}}
PASSING = (429, 503)
"""Statuses that no problem has without `Retry-After`."""
RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to try again."}}


def problem_answers(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may raise these problems, and of every other problem."""
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for kind in kinds:
        by_status[kind.status].append(kind.title)
    content = {MEDIA_TYPE: {"schema": PROBLEM}}
    answers: dict[int | str, dict[str, Any]] = {
        status: {"description": "; or: ".join(by_status[status]), "content": content} for status in sorted(by_status)
    }
    if Unauthorized in kinds:
        answers[Unauthorized.status]["headers"] = CHALLENGE
    for kind in kinds:
        if kind is ResultNotReady or kind.status in PASSING:
            answers[kind.status]["headers"] = RETRY_AFTER
    return {**answers, "default": {"description": "Any other problem.", "content": content}}
