"""The watchdog ends a process, so each test has one of its own."""

import subprocess
import sys
from pathlib import Path

from tests.pictures import draw_photo, encode
from tests.redis_server import RedisServer
from tests.worker.running import Client, running_worker
from worker.contract import JobStatus
from worker.watchdog import DEVICE_HUNG

HANGING = """
import itertools, threading, time
from worker.watchdog import Watchdog

ticks = itertools.count()
Watchdog(lambda: {busy}, 0.3).start()
{work}
print("done")
"""


def run(busy: str, work: str) -> subprocess.CompletedProcess[str]:
    program = HANGING.format(busy=busy, work=work)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


def test_a_device_that_hangs_ends_the_process() -> None:
    ended = run("12.5", "threading.Event().wait()")
    assert ended.returncode == DEVICE_HUNG
    assert "counts as hung" in ended.stderr
    assert "threading.py" in ended.stderr, "where it hangs"


def test_a_device_that_rests_or_goes_from_batch_to_batch_does_not() -> None:
    enough_looks = "while next(ticks) < 200: time.sleep(0.005)"
    assert run("None", enough_looks).stdout == "done\n"
    assert run("float(next(ticks))", enough_looks).stdout == "done\n"


def test_a_process_that_was_suspended_has_not_hung() -> None:
    suspend = (
        "import os, signal, subprocess\n"
        "subprocess.Popen(['sh', '-c', f'sleep 0.6; kill -CONT {os.getpid()}'])\n"
        "os.kill(os.getpid(), signal.SIGSTOP)"
    )
    assert run("12.5", suspend).stdout == "done\n"


def test_the_jobs_of_a_device_that_hangs_go_elsewhere(small_zoo: Path) -> None:
    redis = RedisServer()
    redis.start()
    try:
        with redis.connect() as connection:
            client = Client(connection)
            # No device is as quick as that.
            with running_worker(redis.url, small_zoo, device_timeout_s="0.001") as worker:
                job = client.stylize(encode(draw_photo(1500, 1200), "JPEG"))
                worker.wait_until_logged("counts as hung")
                assert worker.process.wait(timeout=60) == DEVICE_HUNG
            with running_worker(redis.url, small_zoo):
                assert client.wait(job)[0].status is JobStatus.FINISHED
            assert client.announced == [job]
    finally:
        redis.stop()
