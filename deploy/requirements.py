"""Prints what the installed Impasto requires, one a line, without the packages named as arguments."""

import re
import sys
from collections.abc import Collection
from importlib.metadata import requires

_NAME = re.compile(r"[\w.-]+")


def requirements(without: Collection[str]) -> list[str]:
    """The requirements of the package itself; those of its extras are left out."""
    return [each for each in requires("impasto") or [] if "extra ==" not in each and _name(each) not in without]


def _name(requirement: str) -> str:
    found = _NAME.match(requirement)
    return found.group() if found else ""


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(sys.argv[1:])) + "\n")
