"""The topology of the compose file, run without containers: what operators see, and what it survives."""

import json
import math
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from models.style_net import StyleTrunk
from tests.deploy.compose import DEPLOY
from tests.deploy.load import Load, photo
from tests.deploy.topology import PROGRAMS, Topology, until
from tests.zoo import add_style, build_zoo
from training.export import trunk_card

MISSING = [program for program in PROGRAMS if shutil.which(program) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)} on the PATH")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_zoo(tmp_path_factory.mktemp("zoo") / "zoo")


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory, zoo: Path) -> Iterator[Topology]:
    topology = Topology(tmp_path_factory.mktemp("topology"), zoo)
    try:
        topology.start()
        yield topology
    finally:
        topology.stop()


def panels() -> list[tuple[str, str]]:
    """Title and query of every panel."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboards" / "impasto.json").read_text())
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "15s"))
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def empty_panels(topology: Topology) -> list[str]:
    """Those whose query finds nothing, or no number."""
    return [
        f"{title}: {query}"
        for title, query in panels()
        if not any(math.isfinite(float(sample["value"][1])) for sample in topology.query(query))
    ]


def test_every_panel_shows_data_and_every_alert_is_evaluated_and_silent(topology: Topology) -> None:
    with Load(topology.address) as load:
        until(lambda: len(topology.query('up{job=~"api|worker"} == 1')) == 5, "Prometheus reaches every process")
        until(lambda: load.tally.statuses.total() > 30, "some load", 60)
        empty: list[str] = []

        def all_show_data() -> bool:
            empty[:] = empty_panels(topology)
            return not empty

        try:
            until(all_show_data, "every panel shows data", 40)
        except AssertionError:
            pytest.fail("panels without data:\n" + "\n".join(empty))
    assert not load.tally.faults
    rules = topology.rules()
    assert len(rules) > 5
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    assert httpx.get(f"{topology.address}/metrics").status_code == 404, "metrics are for those inside"


def test_it_survives_what_happens_in_a_year(topology: Topology, zoo: Path) -> None:
    with httpx.Client(base_url=topology.address, timeout=120) as client, Load(topology.address) as load:
        accepted = _accept(client, 12)
        topology.workers[0].end(signal.SIGKILL)
        accepted += _accept(client, 6)
        topology.workers[0].start()
        _wait_for_pictures(load)

        topology.prometheus.end(signal.SIGKILL)
        accepted += _accept(client, 12)
        topology.redis.end(signal.SIGKILL)
        topology.redis.start()
        topology.wait_for_redis()
        _wait_for_pictures(load)

        refused = load.tally.statuses[503]
        for index, api in enumerate(topology.apis):
            api.end(signal.SIGKILL)
            _wait_for_pictures(load)
            api.start()
            until(lambda index=index: topology.is_api_alive(index), "the API is back")  # type: ignore[misc]
        assert load.tally.statuses[503] == refused, "as long as one API lives, clients notice nothing"

        _change_the_zoo(topology, client, zoo)
        _wait_for_pictures(load)
        for job in accepted:
            until(lambda job=job: _is_finished(client, job), f"job {job} is answered")  # type: ignore[misc]
        topology.prometheus.start()
    assert not load.tally.faults
    assert topology.live_workers() == len(topology.workers)


def _wait_for_pictures(load: Load) -> None:
    """Until clients have been given some more."""
    enough = load.tally.statuses[200] + 10
    until(lambda: load.tally.statuses[200] >= enough, "pictures come out again")


def _accept(client: httpx.Client, count: int) -> list[str]:
    """Submits jobs to be fetched later. Returns their addresses."""
    addresses = []
    for number in range(count):
        answer = client.post(
            "/stylize", params={"style": "red"}, content=photo(number), headers={"Prefer": "respond-async"}
        )
        assert answer.status_code in {202, 503}, answer.text
        if answer.status_code == 202:
            addresses.append(answer.headers["Location"])
    assert addresses
    return addresses


def _is_finished(client: httpx.Client, address: str) -> bool:
    answer = client.get(f"{address}/result")
    assert answer.status_code in {200, 409, 503}, answer.text
    return answer.status_code == 200


def _change_the_zoo(topology: Topology, client: httpx.Client, zoo: Path) -> None:
    """Adds a style, replaces it by a broken file, and takes it away."""
    torch.manual_seed(0)  # as for the zoo's own trunk: a style for another would be refused
    trunk = StyleTrunk(width=4, residual_blocks=1)
    file = zoo / "green.safetensors"
    names = {path.name for path in zoo.iterdir()}
    card = trunk_card(trunk, "trunk-w4", {})
    add_style(zoo, card, trunk, "green")
    until(lambda: "green" in _styles(client), "the new style is served")
    assert client.post("/stylize", params={"style": "green"}, content=photo(1)).status_code == 200
    # One that sees the file broken first has no style to go on with.
    until(lambda: topology.worker_values('impasto_worker_models{task="stylize"}') == [3, 3, 3], "all workers serve it")
    file.write_bytes(file.read_bytes()[:50])
    until(lambda: topology.worker_values("impasto_worker_zoo_refused") == [1, 1, 1], "the broken file is refused")
    assert client.post("/stylize", params={"style": "green"}, content=photo(2)).status_code == 200
    for path in zoo.iterdir():
        if path.name not in names:
            path.unlink()
    until(lambda: "green" not in _styles(client), "the style is withdrawn")


def _styles(client: httpx.Client) -> str:
    return client.get("/styles").text
