from hypothesis import given
from hypothesis import strategies as st

from worker.batching import Backlog, BatchKey, plan_batches

KEYS = st.lists(st.builds(BatchKey, st.sampled_from("ab"), st.sampled_from([16, 32]), st.sampled_from([16, 48])))


@given(KEYS, st.integers(1, 5000))
def test_every_picture_is_in_one_batch_of_its_kind_within_the_budget(keys: list[BatchKey], budget_px: int) -> None:
    batches = plan_batches(keys, budget_px)
    assert sorted(index for batch in batches for index in batch) == list(range(len(keys)))
    for batch in batches:
        assert len({keys[index] for index in batch}) == 1
        assert batch == sorted(batch)
        assert len(batch) == 1 or len(batch) * keys[batch[0]].pixels <= budget_px


@given(KEYS, st.integers(1, 5000))
def test_whoever_came_first_is_served_first(keys: list[BatchKey], budget_px: int) -> None:
    oldest = [batch[0] for batch in plan_batches(keys, budget_px)]
    assert oldest == sorted(oldest)


def test_styles_share_a_batch_and_sizes_do_not() -> None:
    square, wide = BatchKey("trunk", 64, 64), BatchKey("trunk", 64, 128)
    assert plan_batches([square, wide, square], 10**6) == [[0, 2], [1]]


@given(KEYS, st.integers(1, 5000), st.integers(1, 5))
def test_a_backlog_gives_back_what_it_got_oldest_first(keys: list[BatchKey], budget_px: int, max_batch: int) -> None:
    backlog: Backlog[int] = Backlog()
    for index, key in enumerate(keys):
        backlog.add(key, index, at=float(index))
    taken: list[int] = []
    while backlog:
        oldest, full = min(set(range(len(keys))) - set(taken)), backlog.would_fill(budget_px, max_batch)
        batch = backlog.take(budget_px, max_batch)
        assert batch[0] == oldest
        assert len({keys[index] for index in batch}) == 1
        most = keys[oldest].most(budget_px, max_batch)
        assert len(batch) == most if full else len(batch) < most
        taken += batch
        assert backlog.px == sum(keys[index].pixels for index in range(len(keys)) if index not in taken)
    assert sorted(taken) == list(range(len(keys)))


def test_what_is_set_aside_neither_counts_nor_goes_until_it_is_taken_back() -> None:
    backlog: Backlog[str] = Backlog()
    small, large = BatchKey("trunk", 16, 16), BatchKey("trunk", 64, 64)
    for name, key in {"first": large, "second": large, "third": small, "fourth": small}.items():
        backlog.add(key, name, at=0.0)
    backlog.set_aside()
    backlog.set_aside()
    assert (len(backlog), backlog.aside, backlog.aside_px, backlog.px) == (2, 2, 2 * large.pixels, 2 * small.pixels)
    assert backlog.take(small.pixels, 8) == ["third"]
    backlog.take_back()
    assert (len(backlog), backlog.aside, backlog.px) == (3, 0, 2 * large.pixels + small.pixels)
    assert [backlog.take(1, 8) for _ in range(3)] == [["first"], ["second"], ["fourth"]]
