"""Files that appear whole or not at all."""

import uuid
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, in place of one that was there. Whatever interrupts this, `path` holds all of it or what it held.

    Makes the folder if need be. Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".impasto-{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
