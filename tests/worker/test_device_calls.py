import threading
import time
from concurrent.futures import ThreadPoolExecutor

from worker.device_calls import DeviceCalls


def test_seconds_of_batches_beside_each_other_count_once() -> None:
    busy_s: list[float] = []
    calls = DeviceCalls(busy_s.append)
    both_are_there = threading.Barrier(2)

    def visit() -> None:
        with calls.together():
            both_are_there.wait(60)
            calls.note()

    started = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(visit) for _ in range(2)]:
            done.result()
    assert 0 < sum(busy_s) <= time.monotonic() - started
    assert calls.busy_since is None


def test_the_call_that_has_taken_longest_is_told() -> None:
    calls, first_may_end = DeviceCalls(lambda _: None), threading.Event()
    entered = threading.Barrier(2)

    def visit() -> None:
        with calls.together():
            entered.wait(60)
            assert first_may_end.wait(60)

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(visit)
        entered.wait(60)
        hung_since = calls.busy_since
        assert hung_since is not None
        for _ in range(3):  # others that come and go hide nothing
            with calls.together() as beside:
                calls.note()
                assert beside.met_others
                assert calls.busy_since == hung_since
        first_may_end.set()
        first.result()


def test_one_alone_waits_for_the_others_and_they_for_it() -> None:
    calls, order, first_may_end = DeviceCalls(lambda _: None), [], threading.Event()
    entered = threading.Barrier(2)

    def first() -> None:
        with calls.together():
            entered.wait(60)
            assert first_may_end.wait(60)
            order.append("first")

    def alone() -> None:
        with calls.alone():
            order.append("alone")

    def last() -> None:
        with calls.together() as visit:
            order.append("last")
            assert not visit.met_others

    with ThreadPoolExecutor(3) as threads:
        done = [threads.submit(first)]
        entered.wait(60)
        done.append(threads.submit(alone))
        while not calls._want_alone:
            time.sleep(0.001)
        done.append(threads.submit(last))
        first_may_end.set()
        for each in done:
            each.result()
    assert order == ["first", "alone", "last"]
