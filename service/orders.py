"""A request for a picture, read and checked, and the job that it becomes."""

import hashlib
import json
import re
import time
import unicodedata
import uuid
from dataclasses import dataclass
from pathlib import PurePath

import anyio.to_thread
from fastapi import Request

from service.answers import entity_tag
from service.bodies import declared_length
from service.memory import Content
from service.negotiation import check_sides, choose_format
from service.parameters import FACTORS, OutputParameters, StylizeParameters, UpscaleParameters
from service.preferences import Preference
from service.problems import BadParameter, TooManyPixels
from service.services import Services
from service.submissions import Submission
from service.uploads import InputFormat, Upload, sniff, validate
from worker.contract import MIN_SIDE, STYLIZE_TASK, UPSCALE_TASK, Job, PictureFormat, StyleJob, UpscaleJob

SYNC_RESULT_TTL_S = 60
"""Nobody comes back for the result of a request that was waited for."""
BYTES_PER_PIXEL = {PictureFormat.JPEG: 0.5, PictureFormat.PNG: 2.0, PictureFormat.WEBP: 0.4, PictureFormat.AVIF: 0.3}
"""What files of paintings and of enlarged photos come to, about."""
SMALL_UPLOAD = 32 * 1024
"""Bytes of a JPEG whose header is read where others wait: whatever is in it, that takes some hundredths of a second."""
OF_ONE_JOB = frozenset({"id", "reply_to", "submitted_at", "deadline", "result_ttl_s"})
"""Fields of a job that say nothing of its picture."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a client sent, and the terms on which it is answered."""

    content: Content
    upload: Upload
    stem: str
    """The uploaded file's name without its ending, safe as a name."""
    format: PictureFormat
    quality: int
    preference: Preference
    reply_to: str
    submitted_at: float
    deadline: float
    result_ttl_s: int


async def receive(request: Request, services: Services, parameters: OutputParameters) -> Order:
    """Reads the request's body and checks it. Raises `QueueFull`, and the problems of bodies and uploads."""
    settings = services.settings
    preference = Preference.parse(request.headers.getlist("prefer"))
    await services.jobs.check_room(preference.lane, min(declared_length(request), settings.max_upload_bytes))
    body = await services.bodies.read(request)
    upload = await _judge(body.content.data, settings.max_pixels)
    services.metrics.upload_bytes.observe(len(body.content.data))
    picture_format = choose_format(parameters.picture_format, request.headers.get("accept", ""), upload)
    now = time.time()
    return Order(
        content=body.content,
        upload=upload,
        stem=safe_stem(body.filename),
        format=picture_format,
        quality=parameters.quality or picture_format.default_quality,
        preference=preference,
        reply_to=services.jobs.channel,
        submitted_at=now,
        deadline=now + (settings.result_ttl_s if preference.respond_async else settings.request_timeout_s),
        result_ttl_s=settings.result_ttl_s if preference.respond_async else SYNC_RESULT_TTL_S,
    )


async def _judge(data: bytes, max_pixels: int) -> Upload:
    if len(data) <= SMALL_UPLOAD and sniff(data) is InputFormat.JPEG:
        return validate(data, max_pixels)  # it takes less than going to a thread and coming back
    return await anyio.to_thread.run_sync(validate, data, max_pixels)


def stylize(order: Order, parameters: StylizeParameters, model: str) -> Submission:
    """The job that paints, with the weights whose digest is `model`.

    Raises `BadParameter` for a `size` that leaves too little.
    """
    width, height = reduced(order.upload.width, order.upload.height, parameters.size)
    check_sides(width, height, order.format)
    job = StyleJob(
        id=uuid.uuid4().hex,
        reply_to=order.reply_to,
        submitted_at=order.submitted_at,
        deadline=order.deadline,
        format=order.format,
        quality=order.quality,
        result_ttl_s=order.result_ttl_s,
        pixels=order.upload.width * order.upload.height,
        styles=parameters.styles,
        strength=parameters.strength,
        preserve_color=parameters.preserve_color,
        size=parameters.size,
    )
    return _submission(order, STYLIZE_TASK, job, model, "-".join(parameters.styles), width * height)


def upscale(order: Order, parameters: UpscaleParameters, model: str, max_pixels: int) -> Submission:
    """The job that enlarges, with the weights whose digest is `model`.

    Raises `TooManyPixels` where more than `max_pixels` would come of it.
    """
    width, height = order.upload.width * parameters.factor, order.upload.height * parameters.factor
    if width * height > max_pixels:
        raise _too_large(order.upload, parameters.factor, max_pixels)
    check_sides(width, height, order.format)
    job = UpscaleJob(
        id=uuid.uuid4().hex,
        reply_to=order.reply_to,
        submitted_at=order.submitted_at,
        deadline=order.deadline,
        format=order.format,
        quality=order.quality,
        result_ttl_s=order.result_ttl_s,
        pixels=order.upload.width * order.upload.height,
        factor=parameters.factor,
    )
    return _submission(order, UPSCALE_TASK, job, model, f"x{parameters.factor}", width * height)


def reduced(width: int, height: int, size: int | None) -> tuple[int, int]:
    """Width and height in px once the longest side is at most `size`. Raises `BadParameter` below `MIN_SIDE`."""
    if size is None or size >= max(width, height):
        return width, height
    scale = size / max(width, height)
    short = round(min(width, height) * scale)
    if short < MIN_SIDE:
        raise BadParameter(f"size={size} would leave {short} px of the shorter side; at least {MIN_SIDE} are needed.")
    return round(width * scale), round(height * scale)


def safe_stem(filename: str) -> str:
    """The file's name without folders and ending, in letters and digits of any script."""
    stem = unicodedata.normalize("NFC", PurePath(filename.replace("\\", "/")).stem)
    return re.sub(r"[^\w-]+", "_", stem)[:64].strip("_") or "picture"


def fingerprint(upload: Upload, task: str, job: Job) -> str:
    """Digest of everything that decides the picture, except the weights; in hexadecimal."""
    parameters = {name: value for name, value in job.to_kwargs().items() if name not in OF_ONE_JOB}
    canonical = json.dumps([upload.sha256, task, parameters], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _submission(order: Order, task: str, job: Job, model: str, suffix: str, pixels: int) -> Submission:
    made_of = fingerprint(order.upload, task, job)
    return Submission(
        task=task,
        job=job,
        content=order.content,
        result_bytes=int(pixels * BYTES_PER_PIXEL[job.format]),
        fingerprint=made_of,
        filename=f"{order.stem}-{safe_stem(suffix)}{job.format.ending}",
        lane=order.preference.lane,
        tag=entity_tag(made_of, model),
    )


def _too_large(upload: Upload, factor: int, max_pixels: int) -> TooManyPixels:
    fitting = [other for other in FACTORS if upload.width * upload.height * other**2 <= max_pixels]
    advice = f"use factor={max(fitting)}" if fitting else "send a smaller picture"
    size = f"{upload.width * factor} x {upload.height * factor} px"
    detail = f"Enlarged it would have {size}; at most {max_pixels / 1e6:g} megapixels are given back: {advice}."
    return TooManyPixels(detail, extensions={"max_pixels": max_pixels})
