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
from tests.deploy.topology import PROGRAMS, Topology
from tests.pictures import draw_photo, encode
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
        topology.until(lambda: _reached(topology) == 5, "Prometheus reaches every process")
        topology.until(lambda: load.tally.statuses.total() > 30, "some load")
        empty: list[str] = []

        def all_show_data() -> bool:
            empty[:] = empty_panels(topology)
            return not empty

        try:
            topology.until(all_show_data, "every panel shows data")
        except AssertionError as error:
            pytest.fail(f"{error}\npanels without data:\n" + "\n".join(empty))
    assert not load.tally.faults
    rules = topology.rules()
    assert len(rules) > 5
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    assert httpx.get(f"{topology.address}/metrics").status_code == 404, "metrics are for those inside"


def test_it_survives_what_happens_in_a_year(topology: Topology, zoo: Path) -> None:
    """Each of these while clients ask on, who may be refused honestly, and while jobs lie there that were accepted."""
    with httpx.Client(base_url=topology.address, timeout=120) as client, Load(topology.address) as load:
        topology.prometheus.kill()
        accepted = [
            *_kill_a_worker(topology, client),
            *_restart_redis(topology, client),
        ]
        _wait_for_pictures(topology, load)
        _kill_each_api(topology, load)
        _change_the_zoo(topology, client, zoo)
        _wait_for_pictures(topology, load)
        for job in accepted:
            topology.until(lambda job=job: _is_finished(client, job), f"job {job} is answered")  # type: ignore[misc]
        topology.prometheus.start()
        topology.wait_for_prometheus()
        topology.until(lambda: _reached(topology) == 5, "Prometheus reaches every process again")
    assert not load.tally.faults
    assert "urn:impasto:problem:no-api" not in load.tally.refusals, "there was always an API to answer"
    topology.wait_for_workers()


def _reached(topology: Topology) -> int:
    """How many API processes and workers Prometheus has reached."""
    return len(topology.query('up{job=~"api|worker"} == 1'))


def _kill_a_worker(topology: Topology, client: httpx.Client) -> list[str]:
    """One that has jobs in hand. Returns the addresses of jobs that were accepted before and after."""
    accepted = _accept(client, 12)
    topology.until(lambda: topology.has_jobs_in_hand(0), "the worker has jobs")
    topology.workers[0].kill()
    accepted += _accept(client, 6)
    topology.workers[0].start()
    return accepted


def _restart_redis(topology: Topology, client: httpx.Client) -> list[str]:
    """With jobs in it: the workers lie still meanwhile. Returns their addresses."""
    for worker in topology.workers:
        worker.send(signal.SIGSTOP)
    accepted = _accept(client, 12)
    topology.until(topology.redis_has_written, "Redis's file holds what was accepted")
    topology.redis.kill()
    topology.redis.start()
    topology.wait_for_redis()
    for worker in topology.workers:
        worker.send(signal.SIGCONT)
    topology.wait_for_workers()
    return accepted


def _kill_each_api(topology: Topology, load: Load) -> None:
    """One after the other. Clients notice nothing."""
    refused = load.tally.statuses[503]
    for api in topology.apis:
        api.kill()
        _wait_for_pictures(topology, load)
        api.start()
        topology.wait_for_workers()
    assert load.tally.statuses[503] == refused, load.tally.refusals


def _wait_for_pictures(topology: Topology, load: Load) -> None:
    """Until clients have been given some more."""
    enough = load.tally.statuses[200] + 10
    topology.until(lambda: load.tally.statuses[200] >= enough, "pictures come out again")


def _accept(client: httpx.Client, count: int) -> list[str]:
    """Submits jobs that take a while, to be fetched later. Returns their addresses."""
    content = encode(draw_photo(640, 480))
    addresses = []
    for _ in range(count):
        answer = client.post("/upscale", params={"factor": 2}, content=content, headers={"Prefer": "respond-async"})
        assert answer.status_code == 202, answer.text
        addresses.append(answer.headers["Location"])
    return addresses


def _is_finished(client: httpx.Client, address: str) -> bool:
    answer = client.get(f"{address}/result")
    assert answer.status_code in {200, 409}, answer.text
    return answer.status_code == 200


def _change_the_zoo(topology: Topology, client: httpx.Client, zoo: Path) -> None:
    """Adds a style, replaces it by a broken file, and takes it away."""
    torch.manual_seed(0)  # as for the zoo's own trunk: a style for another would be refused
    trunk = StyleTrunk(width=4, residual_blocks=1)
    file = zoo / "green.safetensors"
    names = {path.name for path in zoo.iterdir()}
    card = trunk_card(trunk, "trunk-w4", {})
    add_style(zoo, card, trunk, "green")
    # Each API process looks once a second at what the workers serve.
    topology.until(lambda: all("green" in page for page in topology.each_api("/styles")), "the new style is offered")
    assert client.post("/stylize", params={"style": "green"}, content=photo(1)).status_code == 200
    preview = client.get("/styles/green/preview")
    assert (preview.status_code, preview.headers["Content-Type"]) == (200, "image/jpeg")
    # One that sees the file broken first has no style to go on with.
    served = 'impasto_worker_models{task="stylize"}'
    topology.until(lambda: topology.worker_values(served) == [3, 3, 3], "all workers serve it")
    file.write_bytes(file.read_bytes()[:50])
    refused = "impasto_worker_zoo_refused"
    topology.until(lambda: topology.worker_values(refused) == [1, 1, 1], "the broken file is refused")
    assert client.post("/stylize", params={"style": "green"}, content=photo(2)).status_code == 200
    for path in zoo.iterdir():
        if path.name not in names:
            path.unlink()
    topology.until(lambda: topology.worker_values(served) == [2, 2, 2], "the style is withdrawn")
    topology.until(lambda: not any("green" in page for page in topology.each_api("/styles")), "nobody is offered it")
    assert client.post("/stylize", params={"style": "green"}, content=photo(3)).status_code == 404
