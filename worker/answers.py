"""What a job is answered with, and how the answer reaches the service."""

from dataclasses import dataclass
from typing import Any, Self

from redis.client import Pipeline

from worker.contract import PICTURE_FIELD, RESULT_FIELD, Job, JobResult, JobStatus, input_key, output_key
from worker.errors import JobError


@dataclass(frozen=True)
class Answer:
    """What a job is closed with."""

    result: JobResult
    picture: bytes | None = None

    @classmethod
    def failed(cls, error: JobError) -> Self:
        """The answer of a job that gets no picture."""
        return cls(JobResult(status=JobStatus.FAILED, error=error.code, detail=error.detail))


def write_answer(pipe: Pipeline, job: Job, answer: Answer) -> None:
    """Puts the result, the picture and the event that the service waits for into a transaction."""
    fields: dict[Any, Any] = {RESULT_FIELD: answer.result.to_json()}
    if answer.picture is not None:
        fields[PICTURE_FIELD] = answer.picture
    pipe.hset(output_key(job.id), mapping=fields)
    pipe.expire(output_key(job.id), job.result_ttl_s)
    pipe.delete(input_key(job.id))
    pipe.publish(job.reply_to, job.id)
