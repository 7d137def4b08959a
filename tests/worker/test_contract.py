import json

import pytest

from worker.contract import (
    ErrorCode,
    JobResult,
    JobStatus,
    PictureFormat,
    StyleInfo,
    StyleJob,
    UpscaleJob,
    UpscalerInfo,
    WorkerReport,
)

COMMON = {
    "id": "0" * 32,
    "reply_to": "impasto:events:1",
    "submitted_at": 1.5,
    "deadline": 61.5,
    "format": PictureFormat.WEBP,
    "quality": 85,
    "result_ttl_s": 600,
}


def test_jobs_survive_json() -> None:
    style = StyleJob(**COMMON, styles={"candy": 0.7, "wave": 0.3}, strength=0.5, size=512)  # type: ignore[arg-type]
    upscale = UpscaleJob(**COMMON, factor=4)  # type: ignore[arg-type]
    assert StyleJob.from_kwargs(json.loads(json.dumps(style.to_kwargs()))) == style
    assert UpscaleJob.from_kwargs(json.loads(json.dumps(upscale.to_kwargs()))) == upscale


def test_a_job_of_another_version_is_refused() -> None:
    with pytest.raises(TypeError):
        UpscaleJob.from_kwargs({**COMMON, "factor": 4, "colour": "blue"})


def test_results_survive_json() -> None:
    failed = JobResult(status=JobStatus.FAILED, error=ErrorCode.BROKEN_PICTURE, detail="Truncated.")
    finished = JobResult(status=JobStatus.FINISHED, width=3, height=2, timings_ms={"infer": 1.5}, model="ab")
    assert JobResult.from_json(failed.to_json()) == failed
    assert JobResult.from_json(finished.to_json()) == finished


def test_what_a_newer_worker_says_besides_is_passed_over() -> None:
    text = json.dumps({"status": "failed", "error": "out_of_paint", "detail": "None left.", "brush": 3})
    assert JobResult.from_json(text) == JobResult(
        status=JobStatus.FAILED, error=ErrorCode.INTERNAL, detail="None left."
    )
    report = {"name": "w", "device": "CPU", "runtime": "openvino", "mood": "good"}
    style, upscaler = {"name": "candy", "digest": "ab", "age": 3}, {"name": "x4", "factor": 4, "digest": "cd", "age": 3}
    assert WorkerReport.from_json(json.dumps({**report, "styles": [style], "upscalers": [upscaler]})) == WorkerReport(
        name="w",
        device="CPU",
        runtime="openvino",
        styles=(StyleInfo(name="candy", digest="ab"),),
        upscalers=(UpscalerInfo(name="x4", factor=4, digest="cd"),),
    )


def test_reports_survive_json() -> None:
    report = WorkerReport(
        name="w",
        device="CPU bfloat16",
        runtime="openvino",
        styles=(StyleInfo(name="candy", digest="ab", preview=True),),
        upscalers=(UpscalerInfo(name="x4", factor=4, digest="cd"),),
    )
    assert WorkerReport.from_json(report.to_json()) == report
