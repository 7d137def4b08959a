"""What the scripts write for RQ, held beside what RQ's own methods write."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from rq import SimpleWorker
from rq.executions import Execution, prepare_execution
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import WorkerStatus

from tests.worker.newer import submit_newer
from tests.worker.running import Client
from worker.answers import Answer
from worker.closing import Closing, JobCloser, read_job
from worker.contract import ErrorCode, JobResult, JobStatus, Lane, input_key, output_key
from worker.errors import JobError
from worker.lanes import LEASE_S, Lanes

ANSWER = Answer(JobResult(status=JobStatus.FINISHED, width=16, height=16), b"picture")
FAILURE = Answer.failed(JobError(ErrorCode.BROKEN_PICTURE, "The picture is cut off."))


class Closer:
    """A worker's two ends of the queue."""

    def __init__(self, connection: Redis, name: str = "worker") -> None:
        self.lanes = Lanes(connection, name)
        self.worker = RqWorker(self.lanes.queues, name=name, connection=connection, serializer=JSONSerializer)
        self.closer = JobCloser(connection, self.lanes, name, self.worker.key)

    def close(self, *, idle: bool = False) -> int:
        """Takes all there is and answers it."""
        closings = [Closing(taken, read_job(taken.data), ANSWER) for taken in self.lanes.take(10).jobs]
        return self.closer.close(closings, idle=idle)


class RqWorker(SimpleWorker):
    """RQ's, with our lease."""

    def get_heartbeat_ttl(self, job: RqJob, working_time: float = 0.0) -> int:
        return LEASE_S


def submit_known(client: Client, lane: Lane) -> str:
    """A job that is the same each time."""
    return client.stylize(b"photo", lane=lane, id="0123456789abcdef" * 2, submitted_at=1.0, deadline=2.0)


def snapshot(connection: Any, execution: Execution) -> dict[str, Any]:
    """All that RQ keeps of jobs: by key its value and whether it expires. Times and the execution's id are blanked."""
    readers: dict[bytes, Callable[[str], Any]] = {
        b"hash": lambda key: connection.hgetall(key).items(),
        b"zset": lambda key: connection.zrange(key, 0, -1),
        b"set": connection.smembers,
        b"list": lambda key: connection.lrange(key, 0, -1),
        b"stream": lambda key: [field for _, fields in connection.xrange(key) for field in fields.items()],
    }

    def blank(value: Any) -> str:
        if isinstance(value, tuple):
            name, content = value
            is_time = name.endswith(b"_at") or name == b"last_heartbeat"
            return f"{blank(name)}={'time' if is_time else blank(content)}"
        return str(value.decode("latin-1")).replace(execution.id, "EXECUTION")

    found = {}
    for name in connection.scan_iter("rq:*"):
        key = name.decode()
        # How RQ describes the workers themselves is not of the job.
        if key not in ("rq:workers", "rq:queues", "rq:worker:worker"):
            members = sorted(map(blank, readers[connection.type(key)](key)))
            found[blank(name)] = (members, connection.ttl(key) > 0)
    return found


@pytest.mark.parametrize("lane", Lane)
@pytest.mark.parametrize("answer", [ANSWER, FAILURE], ids=["finished", "failed"])
def test_redis_holds_what_rqs_own_methods_write(client: Client, connection: Redis, lane: Lane, answer: Answer) -> None:
    ours = Closer(connection)
    submit_known(client, lane)
    (taken,) = ours.lanes.take(1).jobs
    started = snapshot(connection, taken.execution)
    ours.closer.close([Closing(taken, read_job(taken.data), answer)], idle=True)
    closed = snapshot(connection, taken.execution)
    connection.flushdb()

    job_id = submit_known(client, lane)
    connection.lpop(client.queues[lane].key)
    job = client.queues[lane].fetch_job(job_id)
    assert job is not None
    execution = prepare_execution(ours.worker, job)
    with connection.pipeline() as pipe:
        job.prepare_for_execution("worker", pipeline=pipe)
        pipe.persist(job.key)
        pipe.execute()
    assert snapshot(connection, execution) == started

    close_by_rq(ours.worker, job, execution, answer)
    assert snapshot(connection, execution) == closed


def close_by_rq(worker: SimpleWorker, job: RqJob, execution: Execution, answer: Answer) -> None:
    job.ended_at = now()
    told: dict[str, Any] = {
        "worker_name": "worker",
        "execution_id": execution.id,
        "execution_started_at": execution.created_at,
        "execution_ended_at": job.ended_at,
    }
    with job.connection.pipeline() as pipe:
        if answer is ANSWER:
            ttl = job.get_result_ttl(500)
            job._handle_success(ttl, pipe, **told)
            job.cleanup(ttl, pipeline=pipe, remove_from_queue=False)
        else:
            job.set_status(RqStatus.FAILED, pipeline=pipe)
            job._handle_failure(f"{answer.result.error}: {answer.result.detail}", pipe, **told)
        worker.cleanup_execution(job, pipeline=pipe, execution=execution)
        pipe.execute()


def test_a_worker_is_told_by_rq_what_it_has_done(client: Client, connection: Redis) -> None:
    ours = Closer(connection)
    for lane in Lane:
        client.stylize(b"photo", lane=lane)
    assert ours.close(idle=True) == 2
    ours.worker.refresh()  # type: ignore[no-untyped-call]
    assert ours.worker.successful_job_count == 2
    assert ours.worker.get_state() == WorkerStatus.IDLE
    assert ours.worker.total_working_time > 0


def test_failures_are_counted_apart(client: Client, connection: Redis) -> None:
    ours = Closer(connection)
    client.stylize(b"photo")
    client.stylize(b"no photo")
    good, bad = ours.lanes.take(2).jobs
    closings = [Closing(good, read_job(good.data), ANSWER), Closing(bad, read_job(bad.data), FAILURE)]
    assert ours.closer.close(closings, idle=True) == 2
    ours.worker.refresh()  # type: ignore[no-untyped-call]
    assert (ours.worker.successful_job_count, ours.worker.failed_job_count) == (1, 1)
    assert connection.hkeys(output_key(bad.id)) == [b"result"]


def test_a_job_that_cannot_be_read_fails_for_rq_and_is_answered_to_nobody(client: Client, connection: Redis) -> None:
    ours = Closer(connection)
    job_id = client.stylize(b"photo")
    (taken,) = ours.lanes.take(1).jobs
    assert ours.closer.close([Closing(taken, None, FAILURE)], idle=True) == 1
    assert client.queue.failed_job_registry.get_job_ids() == [job_id]
    assert not connection.exists(output_key(job_id))


@pytest.mark.parametrize("answer", [ANSWER, FAILURE], ids=["finished", "failed"])
def test_a_job_closed_once_more_stays_as_it_is(client: Client, connection: Redis, answer: Answer) -> None:
    ours = Closer(connection)
    job_id = client.stylize(b"photo")
    (taken,) = ours.lanes.take(1).jobs
    closing = Closing(taken, read_job(taken.data), answer)
    # Redis did as it was told, and its answer was lost.
    assert [ours.closer.close([closing], idle=True) for _ in range(2)] == [1, 0]
    assert len(client.queue.fetch_job(job_id).results()) == 1  # type: ignore[union-attr]


def test_an_answer_that_comes_too_late_is_not_given(client: Client, connection: Redis) -> None:
    slow, quick = Closer(connection, "slow"), Closer(connection, "quick")
    job_id = client.stylize(b"photo")
    (lost,) = slow.lanes.take(1).jobs
    client.put_back()
    assert quick.close() == 1
    late = Answer(JobResult(status=JobStatus.FINISHED), b"late")

    assert slow.closer.close([Closing(lost, read_job(lost.data), late)], idle=False) == 0
    assert connection.hget(output_key(job_id), "picture") == b"picture"
    assert len(client.queue.fetch_job(job_id).results()) == 1  # type: ignore[union-attr]


def test_a_job_that_two_workers_hold_is_answered_by_the_first(client: Client, connection: Redis) -> None:
    slow, quick = Closer(connection, "slow"), Closer(connection, "quick")
    job_id = client.stylize(b"photo")
    (lost,) = slow.lanes.take(1).jobs
    client.put_back()
    (taken,) = quick.lanes.take(1).jobs
    # RQ forgets the executions that have ended by then; this one gave a sign of life while the job was put back.
    registry = client.queues[lost.lane].started_job_registry
    connection.zadd(registry.key, {f"{job_id}:{lost.execution.id}": time.time() + LEASE_S})

    assert slow.closer.close([Closing(lost, read_job(lost.data), ANSWER)], idle=True) == 1
    connection.delete(output_key(job_id))  # the client has it
    assert quick.closer.close([Closing(taken, read_job(taken.data), ANSWER)], idle=True) == 0
    assert not client.is_answered(job_id)
    assert registry.get_job_ids(cleanup=False) == []
    assert client.queue.finished_job_registry.get_job_ids() == [job_id]
    assert len(client.queue.fetch_job(job_id).results()) == 1  # type: ignore[union-attr]


def test_a_picture_whose_job_waits_again_is_given_once(client: Client, connection: Redis) -> None:
    slow, quick = Closer(connection, "slow"), Closer(connection, "quick")
    arrived, waiting = client.stylize(b"photo"), client.stylize(b"photo", lane=Lane.BULK)
    taken = slow.lanes.take(2).jobs
    for lane in Lane:
        client.put_back(lane=lane)
    arrival = quick.lanes.wait(Lane.INTERACTIVE, 1)
    assert arrival is not None

    assert slow.closer.close([Closing(job, read_job(job.data), ANSWER) for job in taken], idle=True) == 2
    assert [client.wait(job)[1] for job in (arrived, waiting)] == [b"picture"] * 2
    for lane, queue in client.queues.items():
        assert queue.finished_job_registry.get_job_ids() == [waiting if lane is Lane.BULK else arrived]
        # The service counts what waits, against its bound.
        assert queue.get_job_ids() == queue.intermediate_queue.get_job_ids() == []
    assert quick.lanes.take(10, arrival).jobs == []
    assert connection.keys("rq:execution*") == []
    assert announced(client) == {arrived: 1, waiting: 1}


@pytest.mark.parametrize("answer", [ANSWER, FAILURE], ids=["finished", "failed"])
def test_a_picture_whose_job_runs_again_is_given_once(client: Client, connection: Redis, answer: Answer) -> None:
    slow, quick = Closer(connection, "slow"), Closer(connection, "quick")
    job_id = client.stylize(b"photo")
    (lost,) = slow.lanes.take(1).jobs
    client.put_back()
    (again,) = quick.lanes.take(1).jobs

    assert slow.closer.close([Closing(lost, read_job(lost.data), answer)], idle=True) == 1
    given = client.wait(job_id)
    quick.lanes.keep([again])
    other = Answer(JobResult(status=JobStatus.FINISHED), b"other")
    assert quick.closer.close([Closing(again, read_job(again.data), other)], idle=True) == 0

    assert client.answer(job_id) == given == (answer.result, answer.picture)
    assert announced(client) == {job_id: 1}
    job = client.queue.fetch_job(job_id)
    assert job is not None
    assert [result.worker_name for result in job.results()] == ["slow"]
    assert client.queue.started_job_registry.get_job_ids(cleanup=False) == []
    assert connection.keys("rq:execution*") == connection.keys("rq:worker:*:executions") == []
    for closer, count in ((slow, 1), (quick, 0)):
        closer.worker.refresh()  # type: ignore[no-untyped-call]
        assert closer.worker.successful_job_count + closer.worker.failed_job_count == count


def announced(client: Client) -> Counter[str]:
    """How often each job was announced by now."""
    last = client.stylize(b"photo")
    Closer(client.connection, "last").close()
    client.wait(last)
    return Counter(client.announced[:-1])


def test_a_job_whose_lease_redis_lost_is_answered(client: Client, connection: Redis) -> None:
    ours = Closer(connection)
    job_id = client.stylize(b"photo")
    (taken,) = ours.lanes.take(1).jobs
    connection.delete(client.queue.started_job_registry.key)
    assert ours.closer.close([Closing(taken, read_job(taken.data), ANSWER)], idle=True) == 1
    assert client.wait(job_id)[1] == b"picture"
    assert client.queue.finished_job_registry.get_job_ids() == [job_id]
    assert connection.keys("rq:execution*") == []


@pytest.mark.parametrize("status", [RqStatus.CANCELED, RqStatus.FAILED])
@pytest.mark.parametrize("is_held", [True, False])
def test_what_was_closed_otherwise_meanwhile_stays_so(
    client: Client, connection: Redis, status: RqStatus, is_held: bool
) -> None:
    ours = Closer(connection)
    job_id = client.stylize(b"photo")
    (taken,) = ours.lanes.take(1).jobs
    registry = client.queue.started_job_registry
    client.put_back()
    if is_held:  # it gave a sign of life while the job was put back
        connection.zadd(registry.key, {taken.execution.composite_key: time.time() + LEASE_S})
    connection.lrem(client.queue.key, 1, job_id)
    connection.hset(RqJob.key_for(job_id), "status", status)

    assert ours.closer.close([Closing(taken, read_job(taken.data), ANSWER)], idle=True) == 0
    assert not client.is_answered(job_id)
    assert announced(client) == {}
    assert client.queue.fetch_job(job_id).get_status() is status  # type: ignore[union-attr]
    assert registry.get_job_ids(cleanup=False) == []


def test_a_job_of_another_version_whose_workers_died_is_answered(client: Client, connection: Redis) -> None:
    ours = Closer(connection)
    job_id = submit_newer(client, b"photo")
    connection.hset(RqJob.key_for(job_id), "retries_left", 0)
    ours.lanes.take(1)
    client.queue.started_job_registry.cleanup(time.time() + 2 * LEASE_S, [ours.closer.answer_abandoned])
    assert client.wait(job_id)[0].error is ErrorCode.INTERNAL


def test_a_job_of_somebody_else_whose_worker_died_ends_nobody(client: Client, connection: Redis) -> None:
    foreign = client.queue.enqueue("os.getcwd")
    ours = Closer(connection)
    ours.lanes.take(1)
    client.queue.started_job_registry.cleanup(time.time() + 2 * LEASE_S, [ours.closer.answer_abandoned])
    assert client.queue.failed_job_registry.get_job_ids() == [foreign.id]


@pytest.mark.parametrize("is_waited_for", [True, False])
def test_a_job_that_was_answered_while_it_waited_again_is_not_taken(
    client: Client, connection: Redis, is_waited_for: bool
) -> None:
    slow, quick = Closer(connection, "slow"), Closer(connection, "quick")
    job_id = client.stylize(b"photo")
    (taken,) = slow.lanes.take(1).jobs

    def give_a_sign_of_life() -> None:
        with connection.pipeline() as pipe:
            taken.execution.heartbeat(client.queues[taken.lane].started_job_registry, 3 * LEASE_S, pipeline=pipe)
            pipe.execute()

    client.put_back(give_a_sign_of_life)
    arrivals = [quick.lanes.wait(Lane.INTERACTIVE, 1)] if is_waited_for else []
    assert slow.closer.close([Closing(taken, read_job(taken.data), ANSWER)], idle=True) == 1

    assert quick.lanes.take(10, *filter(None, arrivals)).jobs == []
    assert client.queue.get_job_ids() == client.queue.intermediate_queue.get_job_ids() == []
    assert client.queue.fetch_job(job_id).get_status() is RqStatus.FINISHED  # type: ignore[union-attr]
    assert connection.hget(output_key(job_id), "picture") == b"picture"


def test_a_job_that_is_answered_as_it_is_put_back_is_not_taken(client: Client, connection: Redis) -> None:
    slow, quick = Closer(connection, "slow"), Closer(connection, "quick")
    job_id = client.stylize(b"photo")
    (taken,) = slow.lanes.take(1).jobs
    closing = Closing(taken, read_job(taken.data), ANSWER)
    client.put_back(lambda: slow.closer.close([closing], idle=True))
    assert client.queue.get_job_ids() == [job_id]
    # Redis did as it was told, and its answer was lost.
    assert slow.closer.close([closing], idle=True) == 0

    assert quick.lanes.take(10).jobs == []
    assert client.queue.get_job_ids() == []
    assert announced(client) == {job_id: 1}
    assert connection.hget(output_key(job_id), "picture") == b"picture"


@pytest.mark.parametrize("is_held", [True, False])
def test_who_waits_is_answered_even_if_redis_forgot_the_job(client: Client, connection: Redis, is_held: bool) -> None:
    ours = Closer(connection)
    job_id = client.stylize(b"photo")
    (taken,) = ours.lanes.take(1).jobs
    if is_held:
        connection.delete(RqJob.key_for(job_id))
    else:
        connection.flushdb()

    assert ours.closer.close([Closing(taken, read_job(taken.data), ANSWER)], idle=False) == 0
    assert connection.hget(output_key(job_id), "picture") == b"picture"
    assert connection.exists(RqJob.key_for(job_id), input_key(job_id)) == 0
