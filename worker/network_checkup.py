"""The doctor's look at the address that the service would listen on."""

import socket
import urllib.request
from http.client import HTTPException

from worker.findings import Finding, doubtful, good
from worker.settings_checkup import ServiceSettings

TIMEOUT_S = 3


def check_port(service: ServiceSettings) -> Finding:
    """Whether the address is free, or Impasto is there already."""
    host, port = str(service.fields.get("host", "127.0.0.1")), int(service.fields.get("port", 8000))
    address = f"{host}:{port}"
    if port == 0:
        return good("address", f"{host}, on a free port")
    if _is_free(host, port):
        return good("address", f"{address} is free")
    if _is_impasto(host, port):
        return good("address", f"Impasto is running on {address}")
    return doubtful("address", f"{address} cannot be listened on.", "impasto serve --port 8001, or end what is there.")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            return True
    except OSError:
        return False


def _is_impasto(host: str, port: int) -> bool:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    try:
        with urllib.request.urlopen(f"http://{reachable}:{port}/livez", timeout=TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, HTTPException):
        return False
