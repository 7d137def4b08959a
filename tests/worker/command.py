"""The `impasto` command as a person runs it: in a process of its own, in a folder of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.pictures import decode

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    stdout: bytes
    said: str
    """Its standard error."""

    @property
    def text(self) -> str:
        return self.stdout.decode()


class Command:
    """`impasto`, with a zoo and a folder to run in."""

    def __init__(self, folder: Path, zoo: Path, module: Sequence[str] = ("worker.cli",)) -> None:
        """`module`: what is run, with what it is told before the arguments."""
        self.folder = folder
        self._module = module
        self.zoo = str(zoo)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IMPASTO_")},
            "PYTHONPATH": str(ROOT),
            "IMPASTO_ZOO_DIR": self.zoo,
        }

    def start(self, *arguments: str, settings: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", *self._module, *arguments],
            cwd=self.folder,
            env={**self._environment, **{f"IMPASTO_{name}": value for name, value in (settings or {}).items()}},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, stdin: bytes = b"", settings: Mapping[str, str] | None = None) -> Ran:
        with self.start(*arguments, settings=settings) as process:
            stdout, said = process.communicate(stdin, timeout=120)
        return Ran(process.returncode, stdout, said.decode())

    def files(self, folder: str) -> set[str]:
        """Everything in a folder, however deep, hidden files too."""
        root = self.folder / folder
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def picture(self, name: str) -> Image.Image:
        return decode((self.folder / name).read_bytes())
