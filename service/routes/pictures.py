"""`POST /stylize` and `POST /upscale`."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from service import orders
from service.answers import JobDocument
from service.delivery import deliver
from service.openapi import ACCEPTED, CACHE_STATUS, PICTURE_ANSWER, PICTURE_REQUEST, problem_answers
from service.parameters import StylizeParameters, UpscaleParameters
from service.picture_route import PictureRoute
from service.problems import (
    AnimatedPicture,
    BadParameter,
    BrokenPicture,
    DeadlinePassed,
    EmptyBody,
    EncodedBody,
    JobFailed,
    JobLost,
    MalformedMultipart,
    MissingFile,
    NoWorker,
    QueueFull,
    QueueUnavailable,
    ServiceStopping,
    TooFewPixels,
    TooManyBytes,
    TooManyPixels,
    TooManyRequests,
    Unauthorized,
    UnknownFactor,
    UnknownStyle,
    UnsupportedPicture,
    UploadTimeout,
)
from service.security import admit
from service.services import ServicesDep

ANSWERS = {
    200: {**PICTURE_ANSWER[200], "headers": {**PICTURE_ANSWER[200]["headers"], **CACHE_STATUS}},
    202: {"model": JobDocument, "description": "With `Prefer: respond-async`: queued.", "headers": ACCEPTED},
    **problem_answers(
        *(EmptyBody, BrokenPicture, MalformedMultipart, Unauthorized, TooManyBytes, TooManyPixels, UnsupportedPicture),
        *(EncodedBody, AnimatedPicture, TooFewPixels, UploadTimeout, TooManyRequests),
        *(BadParameter, MissingFile, JobFailed, QueueFull, QueueUnavailable, NoWorker),
        *(JobLost, ServiceStopping, DeadlinePassed),
    ),
}

router = APIRouter(tags=["pictures"], dependencies=[Depends(admit)], route_class=PictureRoute)


@router.post(
    "/stylize",
    summary="Paint a picture",
    response_class=Response,
    responses={**ANSWERS, **problem_answers(UnknownStyle)},
    openapi_extra=PICTURE_REQUEST,
)
async def stylize(
    request: Request, parameters: Annotated[StylizeParameters, Query()], services: ServicesDep
) -> Response:
    """Paints the uploaded picture in a style, or a blend of styles.

    `curl --fail-with-body --data-binary @photo.jpg 'localhost:8000/stylize?style=candy' -o painted.jpg`
    """
    started = time.perf_counter()
    model = await services.fleet.find(lambda catalog: catalog.blend(parameters.styles))
    order = await orders.receive(request, services, parameters)
    submission = orders.stylize(order, parameters, model)
    return await deliver(request, services, submission, order.preference, started)


@router.post(
    "/upscale",
    summary="Enlarge a picture",
    response_class=Response,
    responses={**ANSWERS, **problem_answers(UnknownFactor, BadParameter, MissingFile, TooFewPixels)},
    openapi_extra=PICTURE_REQUEST,
)
async def upscale(
    request: Request, parameters: Annotated[UpscaleParameters, Query()], services: ServicesDep
) -> Response:
    """Enlarges the uploaded picture by a factor.

    `curl --fail-with-body --data-binary @photo.jpg 'localhost:8000/upscale?factor=4' -o large.jpg`
    """
    started = time.perf_counter()
    model = await services.fleet.find(lambda catalog: catalog.upscaler(parameters.factor).digest)
    order = await orders.receive(request, services, parameters)
    submission = orders.upscale(order, parameters, model, services.settings.max_output_pixels)
    return await deliver(request, services, submission, order.preference, started)
