"""What can go wrong with a job or a worker."""

from worker.contract import ErrorCode


class WorkerError(Exception):
    """Base of the worker's errors."""


class JobError(WorkerError):
    """A job that gets no picture, with the reason its client is told."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class ZooError(WorkerError):
    """A zoo file is refused."""


class PassingZooError(ZooError):
    """A zoo file is refused for now: not the file is to blame but memory that ran out, or a disk."""


class StartError(WorkerError):
    """The worker cannot start; the sentence says what to do."""


class CommandError(StartError):
    """What was typed cannot be done, and nothing was begun; the sentence says what to type instead."""


class DeviceLostError(Exception):
    """The device computes nothing any more. Not of the tree: a worker that is started again may have a good one."""
