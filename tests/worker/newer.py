"""Jobs as a newer version of the service may write them."""

from dataclasses import dataclass

from tests.worker.running import Client
from worker.contract import STYLIZE_TASK, StyleJob


@dataclass(frozen=True, kw_only=True)
class NewerJob(StyleJob):
    """With a wish that this version does not know."""

    wish: str = "in oil"


def submit_newer(client: Client, content: bytes, task: str = STYLIZE_TASK) -> str:
    """Submits one. Returns its id."""
    return client._submit(task, NewerJob(**client._common(), styles={"red": 1.0}), content, retries=3)
