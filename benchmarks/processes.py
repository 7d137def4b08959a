"""What processes cost: CPU seconds and memory, from `/proc`."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its descendants have used."""
    return sum(int(fields[11]) + int(fields[12]) for member in family(pid) if (fields := _stat(member))) / TICKS


def resident_mb(pid: int) -> float:
    """Memory that a process and its descendants hold, what they share counted once for each of its sharers' part."""
    return sum(_kilobytes(member, "smaps_rollup", "Pss:") for member in family(pid)) / 1000


def peak_mb(pid: int) -> float:
    """The most memory that one process has held since `forget_peak`."""
    return _kilobytes(pid, "status", "VmHWM:") / 1000


def forget_peak(pid: int) -> None:
    """From now on `peak_mb` counts anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _stat(pid: int) -> list[str] | None:
    """Fields of `/proc/PID/stat` from the third (state) on; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def _kilobytes(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
