"""All benchmarks, one after the other: `python -m benchmarks`, or `python -m benchmarks --quick`."""

import argparse
import subprocess
import sys

BENCHMARKS = ("engine", "overhead", "pool", "service", "split", "scaling", "large", "fleet", "chaos", "soak")


def main() -> int:
    """Runs them and puts their tables into the documentation. Returns 1 if one of them failed."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="each in about a minute; the documentation stays as it is")
    chosen = parser.parse_args()
    failed = [name for name in BENCHMARKS if not _run(name, ["--quick"] if chosen.quick else [])]
    if not chosen.quick:
        _run("document", [])
    if failed:
        print(f"\nFailed: {', '.join(failed)}.")
    return 1 if failed else 0


def _run(name: str, options: list[str]) -> bool:
    print(f"\n# {name}", flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
