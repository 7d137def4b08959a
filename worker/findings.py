"""What `impasto doctor` finds, and how it is told."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from worker.printable import printable


class Verdict(StrEnum):
    """How a finding is to be taken."""

    GOOD = "good"
    """As it should be."""
    DOUBTFUL = "doubtful"
    """It works, but somebody may wonder one day."""
    BAD = "bad"
    """Something does not work."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    subject: str
    verdict: Verdict
    said: str
    """What was found."""
    mend: str = ""
    """What to do, unless it is good."""


_MARKS = {Verdict.GOOD: "ok", Verdict.DOUBTFUL: "??", Verdict.BAD: "NO"}


def good(subject: str, said: str) -> Finding:
    """A finding that needs nothing done."""
    return Finding(subject, Verdict.GOOD, said)


def doubtful(subject: str, said: str, mend: str) -> Finding:
    """A finding that somebody should look at."""
    return Finding(subject, Verdict.DOUBTFUL, said, mend)


def bad(subject: str, said: str, mend: str) -> Finding:
    """A finding that keeps something from working."""
    return Finding(subject, Verdict.BAD, said, mend)


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing is bad."""
    return all(finding.verdict is not Verdict.BAD for finding in findings)


def to_json(findings: Sequence[Finding]) -> str:
    """The findings for programs."""
    told = {"healthy": is_healthy(findings), "findings": [asdict(finding) for finding in findings]}
    return json.dumps(told, indent=2)


def to_text(findings: Sequence[Finding], width: int | None = None) -> str:
    """The findings for people: one line each, with what to do below those that are not good.

    Lines longer than `width` letters are broken; without it none are.
    """
    margin = max(len(finding.subject) for finding in findings) + 6
    lines: list[str] = []
    for finding in findings:
        head = f"{_MARKS[finding.verdict]}  {finding.subject}"
        lines += _broken(f"{head.ljust(margin)}{printable(finding.said)}", margin, width)
        if finding.mend:
            lines += _broken(f"{' ' * margin}-> {printable(finding.mend)}", margin + 3, width)
    wrong = sum(finding.verdict is Verdict.BAD for finding in findings)
    verdict = f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong." if wrong else "Nothing is wrong."
    return "\n".join([*lines, "", verdict])


def _broken(line: str, margin: int, width: int | None) -> list[str]:
    if width is None or width < margin + 20:
        return [line]
    return textwrap.wrap(line, width, subsequent_indent=" " * margin, break_on_hyphens=False)
