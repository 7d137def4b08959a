"""The Kubernetes files: valid, confined, and of one mind with each other and with the compose file."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.compose import DEPLOY, services
from worker.pool import PARTING_S
from worker.settings import WorkerSettings

KUBERNETES = DEPLOY / "kubernetes"
COMPONENTS = ("redis", "keda", "shared-zoo", "cpu")
NOT_OURS = {"ScaledObject"}
"""Kinds that Kubernetes itself has no schema for."""

needs_kustomize = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl on the PATH")


def build(folder: Path) -> list[dict[str, Any]]:
    run = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return list(yaml.safe_load_all(run.stdout))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All components at once."""
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(KUBERNETES, folder)
    file = folder / "kustomization.yaml"
    file.write_text(file.read_text().replace("# - components/", "- components/"))
    return build(folder)


def one(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod of each workload."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in documents
        if each["kind"] in {"Deployment", "StatefulSet"}
    }


@pytest.mark.parametrize("file", sorted(KUBERNETES.rglob("*.yaml")), ids=lambda file: str(file.relative_to(KUBERNETES)))
def test_each_file_is_valid_by_itself(file: Path) -> None:
    for document in yaml.safe_load_all(file.read_text()):
        if document["kind"] not in {"Kustomization", "Component", *NOT_OURS} and file.name != "worker.yaml":
            kubernetes_validate.validate(document, "1.30", strict=True)


@needs_kustomize
def test_what_comes_out_is_valid(everything: list[dict[str, Any]]) -> None:
    for document in [*build(KUBERNETES), *everything]:
        if document["kind"] not in NOT_OURS:
            kubernetes_validate.validate(document, "1.30", strict=True)


@needs_kustomize
def test_every_container_is_confined(everything: list[dict[str, Any]]) -> None:
    for name, pod in pods(everything).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert re.search(r":\d", container["image"]), "no version"


@needs_kustomize
def test_a_worker_has_a_gpu_and_time_to_start_and_to_end() -> None:
    pod = pods(build(KUBERNETES))["worker"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["terminationGracePeriodSeconds"] >= WorkerSettings.model_fields["device_timeout_s"].default + PARTING_S
    assert container["startupProbe"]["httpGet"] == container["livenessProbe"]["httpGet"] == {
        "path": "/livez",
        "port": "metrics",
    }  # fmt: skip


@needs_kustomize
def test_a_cpu_worker_computes_on_what_it_has_asked_for(everything: list[dict[str, Any]]) -> None:
    (container,) = pods(everything)["worker"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["IMPASTO_THREADS"] == container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_pods_are_spread_over_zones_and_machines(name: str) -> None:
    documents = yaml.safe_load_all((KUBERNETES / "base" / f"{name}.yaml").read_text())
    spec = pods(list(documents))[name]["spec"]
    keys = [each["topologyKey"] for each in spec["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    # A cluster of one machine must do.
    assert {each["whenUnsatisfiable"] for each in spec["topologySpreadConstraints"]} == {"ScheduleAnyway"}


@needs_kustomize
def test_what_is_scaled_or_kept_from_disruption_exists(everything: list[dict[str, Any]]) -> None:
    workloads = pods(everything)
    scaled = one(everything, "ScaledObject", "worker")["spec"]
    assert scaled["scaleTargetRef"]["name"] in workloads
    assert scaled["minReplicaCount"] >= 1, "nobody would be there to tell what can be asked for"
    budgets = {each["metadata"]["name"] for each in everything if each["kind"] == "PodDisruptionBudget"}
    assert budgets == {"api", "worker"}


@needs_kustomize
def test_selectors_find_their_pods(everything: list[dict[str, Any]]) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(everything).values()]
    for document in everything:
        spec = document.get("spec", {})
        selector = spec.get("podSelector") if document["kind"] == "NetworkPolicy" else spec.get("selector")
        matched = (selector or {}).get("matchLabels", selector if document["kind"] == "Service" else None)
        if matched:
            assert any(matched.items() <= each.items() for each in labels), document["metadata"]["name"]


@needs_kustomize
def test_everything_is_closed_and_only_the_known_ways_are_open(everything: list[dict[str, Any]]) -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in everything if each["kind"] == "NetworkPolicy"}
    nothing = policies.pop("impasto-nothing")
    assert nothing.keys() == {"podSelector", "policyTypes"}
    assert set(nothing["policyTypes"]) == {"Ingress", "Egress"}
    assert all(set(nothing["podSelector"]["matchLabels"].items()) <= set(pod["metadata"]["labels"].items())
               for pod in pods(everything).values())  # fmt: skip
    assert policies.keys() == {"impasto-egress", "impasto-api", "impasto-worker", "impasto-redis"}


def test_the_scaler_looks_at_all_work_and_at_the_wait() -> None:
    (scaled,) = yaml.safe_load_all((KUBERNETES / "components/keda/scaled-object.yaml").read_text())
    triggers = scaled["spec"]["triggers"]
    # KEDA takes nothing else, and says so only in the cluster.
    assert all(isinstance(value, str) for trigger in triggers for value in trigger["metadata"].values())
    queries = [trigger["metadata"]["query"] for trigger in triggers]
    assert "impasto_queue_depth" in queries[0]
    assert "impasto_jobs_running" in queries[0]
    assert "impasto_queue_oldest_wait_seconds" in queries[1]


def test_redis_is_configured_as_in_compose() -> None:
    assert (KUBERNETES / "components/redis/redis.conf").read_text() == (DEPLOY / "redis" / "redis.conf").read_text()
    (image,) = set(re.findall(r"image: (valkey\S+)", (KUBERNETES / "components/redis/redis.yaml").read_text()))
    assert image == services()["redis"]["image"]
