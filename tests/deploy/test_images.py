"""The Dockerfile, and what is built from it, as far as it can be looked at without Docker."""

import re
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.compose import DEPLOY, ROOT, tool

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_IN_API = re.findall(r"requirements\.py (.*) \\", DOCKERFILE)[0].split()


def test_hadolint_has_nothing_to_say() -> None:
    run = subprocess.run([tool("hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_image_starts_from_a_pinned_one_and_ends_as_nobody() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    stages = dict(re.findall(r"^FROM (\S+) AS (\S+)", DOCKERFILE, re.MULTILINE))
    assert "${PYTHON_IMAGE}" in stages
    assert re.search(r"AS base\n(?:(?!FROM).*\n)*USER 10001:10001", DOCKERFILE)
    # Nothing is installed in what is shipped, so nothing to install with is there: no pip, no compiler.
    shipped = DOCKERFILE[DOCKERFILE.index("AS base") :]
    assert "apt-get" not in DOCKERFILE
    assert "pip" not in shipped


def test_what_it_copies_is_in_the_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied
    assert copied <= allowed
    assert all((ROOT / path).exists() for path in allowed)
    assert not any(fnmatch(".env", pattern) for pattern in allowed), "passwords stay outside"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, of a copy of the sources: a build leaves its traces where it runs."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for line in re.findall(r"^COPY (?!--from|deploy)(.+)$", DOCKERFILE, re.MULTILINE):
        subprocess.run(["cp", "-r", *(ROOT / name for name in line.split()[:-1]), source], check=True)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]
    run = subprocess.run([*pip, target, source], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return zipfile.ZipFile(next(target.glob("impasto-*.whl")))


def test_the_wheel_holds_all_that_is_served(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    for package in ("models", "service", "training", "worker"):
        files = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        missing = {str(path.relative_to(ROOT)) for path in files} - held
        assert not {name for name in missing if not Path(name).name.startswith(".")}


def test_the_api_starts_on_what_its_image_has() -> None:
    """In a Python that pretends to lack the packages that are left out."""
    program = f"import sys; sys.modules.update(dict.fromkeys({NOT_IN_API!r})); import service.__main__, worker.__main__"
    assert "torch" in NOT_IN_API
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_pinned_versions_are_ones_that_the_project_takes() -> None:
    lines = (DEPLOY / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    names = {canonicalize_name(each.name) for each in wanted} - {"torch", "torchvision"}
    assert names <= pins.keys(), "deploy/constraints.txt lacks a requirement"
    for requirement in wanted:
        pinned = pins.get(canonicalize_name(requirement.name))
        assert pinned is None or requirement.specifier.contains(pinned), f"{requirement}, but {pinned} is pinned"


def test_requirements_are_printed_without_those_named() -> None:
    run = subprocess.run(
        [sys.executable, DEPLOY / "requirements.py", "torch", "openvino"], capture_output=True, text=True, check=False
    )
    if "PackageNotFoundError" in run.stderr:
        pytest.skip("impasto runs here from a folder that is not installed")
    names = {Requirement(line).name for line in run.stdout.splitlines()}
    assert names == {Requirement(text).name for text in PROJECT["dependencies"]} - {"torch", "openvino"}
