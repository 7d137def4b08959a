"""The queue's benchmark as a user starts it: real workers, a real Redis, few jobs."""

import json
import subprocess
import sys
from pathlib import Path


def test_every_contender_and_every_size_of_a_pool_is_measured(tmp_path: Path) -> None:
    report = tmp_path / "pool.json"
    subprocess.run([sys.executable, "-m", "benchmarks.pool", "--quick", "--output", report], check=True, timeout=600)
    bookkeeping, pools = json.loads(report.read_text())["tables"]
    assert [what for what, *_ in bookkeeping["rows"]] == [
        "one worker, identity network",
        "RQ's SimpleWorker, empty task",
    ]
    assert [size for size, *_ in pools["rows"]] == [1, 2]
    for _, jobs_per_s, *_ in bookkeeping["rows"] + pools["rows"]:
        assert jobs_per_s > 0
