"""The doctor's look at the machine: versions, memory, disk."""

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from worker.cores import usable_cores
from worker.findings import Finding, bad, doubtful, good

PACKAGES = ("impasto", "torch", "torchvision", "openvino", "numpy", "pillow", "pillow-heif", "redis", "rq", "fastapi")
OPTIONAL = frozenset({"impasto", "openvino"})
"""Without the first the code runs from a checkout, without the second PyTorch does its work."""
LEAST_DISK_GB = 1.0
LEAST_MEMORY_GB = 1.0


def check_versions() -> Iterator[Finding]:
    """Python and the packages that decide what a picture looks like and how fast it is made."""
    yield good("Python", f"{platform.python_version()} on {platform.platform()}, {sys.executable}")
    versions = {package: _version(package) for package in PACKAGES}
    said = ", ".join(f"{package} {version or 'missing'}" for package, version in versions.items())
    missing = [package for package, version in versions.items() if version is None and package not in OPTIONAL]
    if missing:
        yield bad("packages", said, f"pip install {' '.join(missing)}")
    else:
        yield good("packages", said)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_disk(zoo: Path) -> Iterator[Finding]:
    """Room where temporary files go and where training would put a style."""
    folders = {"disk, temporary": Path(tempfile.gettempdir()), "disk, zoo": zoo}
    for subject, folder in folders.items():
        if not folder.is_dir():
            continue
        free_gb = shutil.disk_usage(folder).free / 1e9
        said = f"{free_gb:.1f} GB free in {folder}"
        if free_gb < LEAST_DISK_GB:
            yield doubtful(subject, said, f"Make room: at least {LEAST_DISK_GB:g} GB should be free.")
        else:
            yield good(subject, said)


def check_memory() -> Iterator[Finding]:
    """Memory that can be had, where the system tells."""
    free_gb = _available_gb()
    if free_gb is None:
        return
    said = f"{free_gb:.1f} GB to be had, {usable_cores()} CPU cores"
    if free_gb < LEAST_MEMORY_GB:
        yield doubtful("memory", said, "End other programs, or lower IMPASTO_MAX_MEGAPIXELS.")
    else:
        yield good("memory", said)


def _available_gb() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kilobytes[0] * 1024 / 1e9 if kilobytes else None
