"""Training works where nothing but Impasto's own requirements is installed."""

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.training.conftest import REPOSITORY

RUN = """
import runpy, sys
sys.modules.update(dict.fromkeys({missing!r}))
sys.argv = {argv!r}
runpy.run_module("training.fit", run_name="__main__", alter_sys=True)
"""


def brought_in(requirements: list[str]) -> set[str]:
    """Names of the packages that come with those, all the way down, as far as they are installed here."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found:
            continue
        found.add(name)
        try:
            below = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        extras = wanted.extras or {""}
        waiting += [
            each for each in below if not each.marker or any(each.marker.evaluate({"extra": e}) for e in extras)
        ]
    return found


def test_an_upscaler_is_trained_on_a_plain_install(photos: Path, loss_weights: Path, tmp_path: Path) -> None:
    """In a Python that pretends to lack what only the extras bring in."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    plain = brought_in(project["dependencies"]) | {"impasto"}
    missing = [
        module
        for module, packages in packages_distributions().items()
        if not plain & {canonicalize_name(package) for package in packages}
    ]
    assert "pytest" in missing
    argv = [
        "training.fit", "upscale", "--photos", str(photos), "--loss-weights", str(loss_weights), "--stages", "1x2@48",
        "--run", str(tmp_path / "run"), "--zoo", str(tmp_path / "zoo"), "--device", "cpu", "--threads", "1",
    ]  # fmt: skip

    command = [sys.executable, "-W", "error", "-c", RUN.format(missing=missing, argv=argv)]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "zoo" / "x4.pt").exists()
