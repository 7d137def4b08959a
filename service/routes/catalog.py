"""`/styles` and `/upscalers`: what the live workers serve."""

import hashlib

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.answers import is_unchanged
from service.openapi import BYTES, ETAG, IF_NONE_MATCH, UNCHANGED_ANSWER, problem_answers
from service.problems import NoPreview, NoWorker, QueueUnavailable, UnknownStyle
from service.services import ServicesDep
from worker.contract import StyleInfo

router = APIRouter(tags=["catalog"])

PREVIEW_CACHE = "public, max-age=300"
PLACE = "NAME"
"""Where a preview's address has the style's name, which needs no quoting (`models.card.NAME_PATTERN`)."""


class StyleDocument(BaseModel):
    """A style that can be asked for."""

    name: str = Field(examples=["candy"])
    title: str = Field(description="The painting it was learnt from.", examples=["June Tree"])
    artist: str = ""
    year: str = ""
    terms: str = Field("", description="Terms of the style image.")
    digest: str = Field(description="Of the weights.")
    preview: str | None = Field(None, description="Address of a picture that shows it.")


class UpscalerDocument(BaseModel):
    """An upscaler that can be asked for."""

    name: str = Field(examples=["x4"])
    factor: int = Field(examples=[4])
    digest: str = Field(description="Of the weights.")


@router.get("/styles", summary="The styles", responses=problem_answers(NoWorker, QueueUnavailable))
async def list_styles(request: Request, services: ServicesDep) -> list[StyleDocument]:
    """Lists the styles by name."""
    catalog = await services.fleet.catalog()
    # Once: for ten thousand styles `url_for` would keep all other requests waiting for half a second.
    before, _, after = request.url_for("style_preview", name=PLACE).path.rpartition(PLACE)
    return [_style_document(style, f"{before}{style.name}{after}") for style in catalog.styles.values()]


@router.get(
    "/styles/{name}/preview",
    name="style_preview",
    summary="A picture that shows a style",
    response_class=Response,
    responses={
        200: {"description": "The picture.", "content": {"image/jpeg": {"schema": BYTES}}, "headers": ETAG},
        **UNCHANGED_ANSWER,
        **problem_answers(UnknownStyle, NoPreview, NoWorker, QueueUnavailable),
    },
    openapi_extra=IF_NONE_MATCH,
)
async def read_preview(request: Request, name: str, services: ServicesDep) -> Response:
    """Gives a JPEG."""
    style = await services.fleet.find(lambda catalog: catalog.style(name))
    preview = await services.fleet.preview(style)
    # Not the style's digest: another picture may show the same weights.
    headers = {"ETag": f'"{hashlib.sha256(preview).hexdigest()[:32]}"', "Cache-Control": PREVIEW_CACHE}
    if is_unchanged(request, headers["ETag"]):
        services.metrics.not_modified.inc()
        return Response(status_code=304, headers=headers)
    return Response(preview, headers=headers, media_type="image/jpeg")


@router.get("/upscalers", summary="The upscalers", responses=problem_answers(NoWorker, QueueUnavailable))
async def list_upscalers(services: ServicesDep) -> list[UpscalerDocument]:
    """Lists the upscalers by factor."""
    catalog = await services.fleet.catalog()
    return [
        UpscalerDocument(name=upscaler.name, factor=upscaler.factor, digest=upscaler.digest)
        for upscaler in catalog.upscalers.values()
    ]


def _style_document(style: StyleInfo, preview: str) -> StyleDocument:
    return StyleDocument(
        name=style.name,
        title=style.title,
        artist=style.artist,
        year=style.year,
        terms=style.terms,
        digest=style.digest,
        preview=preview if style.preview else None,
    )
