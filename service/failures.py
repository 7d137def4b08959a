"""What a worker says of a job without a picture -> the problem that the client is told."""

from service.problems import (
    BrokenPicture,
    DeadlinePassed,
    JobFailed,
    JobLost,
    Problem,
    TooManyPixels,
    UnknownFactor,
    UnknownStyle,
)
from worker.contract import ErrorCode, JobResult


def problem_of(job_id: str, result: JobResult) -> Problem:
    """The problem that a worker's unsuccessful result of that job stands for."""
    return _kind_of(result).of_job(job_id)


def _kind_of(result: JobResult) -> Problem:
    match result.error:
        case ErrorCode.BROKEN_PICTURE:
            return BrokenPicture(result.detail or "The file is damaged or incomplete; send it again.")
        case ErrorCode.UNKNOWN_STYLE:
            return UnknownStyle(result.detail or "The worker does not know this style; see GET /styles.")
        case ErrorCode.UNKNOWN_FACTOR:
            return UnknownFactor(result.detail or "No upscaler of that factor is loaded; see GET /upscalers.")
        case ErrorCode.TOO_LARGE:
            return TooManyPixels(result.detail or "The picture does not fit the worker's memory; send a smaller one.")
        case ErrorCode.DEADLINE:
            return DeadlinePassed()
        case ErrorCode.INPUT_LOST:
            return JobLost()
        case _:
            return JobFailed("The picture could not be made; the worker's log has the details. Try again.")
