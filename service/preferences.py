"""The `Prefer` header of RFC 7240, as far as it is honoured: `respond-async` and `wait`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from worker.contract import Lane

APPLIED = "respond-async"


@dataclass(frozen=True)
class Preference:
    """How a client wants to wait."""

    respond_async: bool = False
    wait_s: float = 0.0
    """With `respond_async`: seconds in which the picture itself may still be the answer."""

    @property
    def lane(self) -> Lane:
        """Where the job is to wait."""
        return Lane.BULK if self.respond_async else Lane.INTERACTIVE

    @classmethod
    def parse(cls, headers: Iterable[str]) -> Self:
        """Reads the values of the `Prefer` headers; what is unknown or malformed is ignored, as the RFC asks."""
        entries = [part.strip().lower() for header in headers for part in header.split(",")]
        tokens = dict(_parse_entry(entry) for entry in reversed(entries))  # of repeated ones the first counts
        wait = tokens.get("wait", "")
        return cls("respond-async" in tokens, float(wait) if wait.isdecimal() and len(wait) < 10 else 0.0)


def _parse_entry(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition(";")[0].partition("=")
    return name.strip(), value.strip().strip('"')
