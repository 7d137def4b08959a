"""Exit status 0 if a URL answers 200 within three seconds: the images have no curl."""

import sys
from urllib.error import URLError
from urllib.request import urlopen

TIMEOUT_S = 3


def is_alive(url: str) -> bool:
    """Whether `url` (http) answers 200."""
    try:
        with urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 (the address is the caller's own)
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(not is_alive(sys.argv[1]))
