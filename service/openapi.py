"""What OpenAPI cannot read off the routes' signatures: bodies of bytes, pictures, problems."""

from collections import defaultdict
from typing import Any

from service.problems import MEDIA_TYPE, Problem, ResultNotReady
from worker.contract import PictureFormat

BYTES = {"type": "string", "format": "binary"}
STRING = {"type": "string"}

PROBLEM_SCHEMA = {
    "title": "Problem",
    "description": "An RFC 9457 problem. Some kinds have further members.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "Stable name of the kind of problem."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do, in a sentence."},
        "job_id": {"type": "string", "description": "Of the job that met it, where there was one."},
    },
}

PICTURE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The picture: its bytes (whatever the content type claims, the bytes decide) "
        "or a form with the field `file`.",
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": BYTES}},
            },
            "image/*": {"schema": BYTES},
            "application/octet-stream": {"schema": BYTES},
        },
    }
}

PICTURE_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture.",
        "content": {picture_format.media_type: {"schema": BYTES} for picture_format in PictureFormat},
        "headers": {
            "Server-Timing": {"schema": STRING, "description": "Milliseconds in each stage."},
            "ETag": {"schema": STRING, "description": "Of upload, parameters and weights."},
        },
    }
}

ETAG = {"ETag": {"schema": STRING, "description": "Of the picture."}}
UNCHANGED_ANSWER: dict[int | str, dict[str, Any]] = {
    304: {
        "description": "To an `If-None-Match` that names the picture's `ETag`: the client has it.",
        "headers": ETAG,
    }
}

LOCATION = {"Location": {"schema": STRING, "description": "Where to ask for the job."}}
PASSING = (429, 503)
"""Statuses that no problem has without `Retry-After`."""
RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to try again."}}


def problem_answers(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may raise these problems, and of every other problem."""
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for kind in kinds:
        by_status[kind.status].append(kind.title)
    content = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
    answers: dict[int | str, dict[str, Any]] = {
        status: {"description": "; or: ".join(by_status[status]), "content": content} for status in sorted(by_status)
    }
    for kind in kinds:
        if kind is ResultNotReady or kind.status in PASSING:
            answers[kind.status]["headers"] = RETRY_AFTER
    return {**answers, "default": {"description": "Any other problem.", "content": content}}
