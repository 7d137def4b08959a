"""The compose files: valid for the tools that read them, and as careful as docs/operations.md says."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.deploy.compose import DEPLOY, ROOT, read_yaml, services, tool
from worker.pool import PARTING_S
from worker.settings import WorkerSettings

BASE, GPU, REDIS = FILES = ("docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.redis.yml")
OWN = ("api", "worker", "train")
"""Services that run our own images."""
COMPOSE = shutil.which("docker-compose")
PASSWORDS = {"REDIS_PASSWORD": "r", "GRAFANA_PASSWORD": "g"}
REDIS_URL = {"IMPASTO_REDIS_URL": "rediss://elsewhere:6379/0"}
NOT_FOR_CONTAINERS = {"IMPASTO_ZOO_DIR"}
"""What only an API with a worker of its own reads."""


def printed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMPOSE or "", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("file", FILES)
def test_it_keeps_to_the_compose_specification(file: str) -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(ROOT / file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.skipif(COMPOSE is None, reason="needs docker-compose on the PATH")
@pytest.mark.parametrize("files", [[BASE], [BASE, GPU], [BASE, REDIS], FILES], ids=["cpu", "gpu", "redis", "all"])
def test_compose_itself_reads_it(files: Sequence[str], tmp_path: Path) -> None:
    options = [part for file in files for part in ("-f", file)]
    options += ["--project-directory", str(ROOT), "--env-file", str(tmp_path / "none"), "--profile", "train"]
    (tmp_path / "none").touch()
    run = printed(*options, "config", **PASSWORDS, **REDIS_URL)
    assert run.returncode == 0, run.stderr
    assert ("impasto/worker-gpu" in run.stdout) == (GPU in files)
    assert run.stdout.count("rediss://elsewhere:6379/0") == (2 if REDIS in files else 0)
    missing = printed(*options, "config", **REDIS_URL)
    assert missing.returncode != 0, "a service without a password must not start"
    assert "Put a REDIS_PASSWORD into .env" in missing.stderr


@pytest.mark.skipif(COMPOSE is None, reason="needs docker-compose on the PATH")
def test_a_redis_elsewhere_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    run = printed("-f", BASE, "-f", REDIS, "--env-file", str(tmp_path / "none"), "config", **PASSWORDS)
    assert run.returncode != 0
    assert "Put an IMPASTO_REDIS_URL into .env" in run.stderr


def test_with_a_redis_elsewhere_none_starts_here_and_those_who_need_it_can_reach_it() -> None:
    changed = services(REDIS)
    assert changed.pop("redis") == {"deploy": {"replicas": 0}}
    needing = {name for name, service in services().items() if "redis" in service.get("depends_on", ())}
    assert changed.keys() == needing
    for service in changed.values():
        assert service.keys() == {"environment", "networks"}
        assert service["environment"].keys() == {"IMPASTO_REDIS_URL"}
        # Besides `inside`: compose adds a list to the one that it overrides.
        (network,) = service["networks"]
        assert not (read_yaml(ROOT / REDIS)["networks"][network] or {}).get("internal")


def test_a_number_of_containers_lasts() -> None:
    """In the file: what `--scale` sets, the next `up` takes back."""
    replicas = {name: service["deploy"].get("replicas") for name, service in services().items()}
    assert {name: number for name, number in replicas.items() if number} == {
        "api": "${API_PROCESSES:-2}",
        "worker": "${WORKERS:-1}",
    }


def test_memory_is_there_for_each_process_of_eight_gpus() -> None:
    one, eight = (
        float(found(r"WORKER_MEMORY:-(\d+)G", services(file)["worker"]["deploy"]["resources"]["limits"]["memory"]))
        for file in (BASE, GPU)
    )
    assert eight >= 8 * one


@pytest.mark.parametrize(("name", "service"), services().items(), ids=services())
def test_every_service_is_confined(name: str, service: Mapping[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if name == "train" else "unless-stopped")
    assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
    assert service["pids_limit"]
    assert service["stop_grace_period"]
    assert name == "train" or service["healthcheck"]["test"]
    user = service.get("user", "")
    assert name in OWN or re.fullmatch(r"[1-9]\d*:\d+", user), "own images name their user themselves"
    # A tag that says nothing, or moves, is no pin.
    assert re.search(r":.*\d+\.\d+", service["image"])


def test_nothing_is_published_that_should_not_be() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert set(published) == {"proxy", "prometheus", "grafana"}
    assert all(port.startswith(("127.0.0.1:", "${IMPASTO_HOST:-127.0.0.1}:")) for (port,) in published.values())
    for name in ("redis", "api", "worker"):
        assert services()[name]["networks"] == ["inside"]


def test_redis_keeps_what_it_has_promised() -> None:
    config = (DEPLOY / "redis" / "redis.conf").read_text()
    assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(config.splitlines())
    assert "requirepass" in services()["redis"]["command"][2]


def test_services_wait_for_what_they_need() -> None:
    conditions = {
        name: {needed: each["condition"] for needed, each in service["depends_on"].items()}
        for name, service in services().items()
        if "depends_on" in service
    }
    healthy = "service_healthy"
    assert conditions == {
        "proxy": {"api": healthy},
        "api": {"redis": healthy},
        "worker": {"redis": healthy},
        "grafana": {"prometheus": healthy},
    }


def test_a_worker_is_given_the_time_for_its_batch() -> None:
    timeout_s = WorkerSettings.model_fields["device_timeout_s"].default
    assert seconds(services()["worker"]["stop_grace_period"]) >= timeout_s + PARTING_S


def test_the_proxy_runs_as_many_processes_as_it_may() -> None:
    processes = found(r"worker_processes (\w+);", (DEPLOY / "proxy" / "nginx.conf").read_text())
    assert processes == services()["proxy"]["deploy"]["resources"]["limits"]["cpus"]


def test_the_proxy_waits_longer_than_the_service() -> None:
    proxy = (DEPLOY / "proxy" / "nginx.conf").read_text()
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    assert seconds(found(r"proxy_read_timeout (\d+s)", proxy)) > defaults["request_timeout_s"]
    assert int(found(r"client_max_body_size (\d+)m", proxy)) * 2**20 > defaults["max_upload_mb"] * 1e6


@pytest.mark.parametrize(
    ("service", "settings"), [("api", Settings), ("worker", WorkerSettings)], ids=["api", "worker"]
)
def test_every_setting_can_be_given_in_env(service: str, settings: type[Settings] | type[WorkerSettings]) -> None:
    in_code = {f"IMPASTO_{name.upper()}" for name in settings.model_fields}
    passed_on = set(services()[service]["environment"])
    assert in_code - NOT_FOR_CONTAINERS <= passed_on
    assert passed_on <= in_code


def test_the_example_of_env_names_what_there_is() -> None:
    text = "".join((ROOT / file).read_text() for file in FILES)
    passed_on = {name for service in ("api", "worker") for name in services()[service]["environment"]}
    known = set(re.findall(r"\$\{(\w+)", text)) | passed_on | {"COMPOSE_FILE"}
    named = set(re.findall(r"^#? ?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert named <= known
    assert set(re.findall(r"\$\{(\w+)", text)) <= named


def test_the_example_of_env_says_what_cannot_be_set_there() -> None:
    fixed = {
        name
        for service in ("api", "worker")
        for name, value in services()[service]["environment"].items()
        if value is not None
    }
    assert fixed <= set(re.findall(r"IMPASTO_[A-Z_]+", (ROOT / ".env.example").read_text()))


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, pattern
    return match.group(1)
