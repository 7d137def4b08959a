"""The compose file's topology without containers: its Redis, API processes, workers, proxy and Prometheus."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from redis import Redis
from redis.exceptions import RedisError

from tests.deploy.compose import DEPLOY, ROOT, fixed_environment, read_yaml, services
from tests.redis_server import free_port

PASSWORD = "a-password"  # noqa: S105 (of a server that lives for a test)
PROGRAMS = ("redis-server", "prometheus", "nginx")


GIVE_UP_S = 150
"""After which what has not happened will not: far more than anything takes on a busy machine."""
LOOK_S = 0.05


class Program:
    """A process that is started again by hand, as its container would be by Docker."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
        self._command = command
        self._log = folder / f"{name}.log"
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("IMPASTO_")}
        self._environment |= environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def wait(self) -> None:
        if self._process is not None:
            self._process.wait(GIVE_UP_S)
            self._process = None

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()

    @property
    def story(self) -> str:
        """How it is, and the end of its log."""
        status = self._process and self._process.poll()
        state = "gone" if self._process is None else "running" if status is None else f"ended with {status}"
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        return f"--- {self._log.stem}: {state}\n{log[-600:]}"


def wait_until(condition: Callable[[], bool], what: str, programs: Sequence[Program]) -> None:
    """Looks again and again, for what announces itself to nobody."""
    deadline = time.monotonic() + GIVE_UP_S
    while not condition():
        if time.monotonic() > deadline:
            stories = "\n".join(program.story for program in programs)
            raise AssertionError(f"not in {GIVE_UP_S} s: {what}\n{stories}")
        time.sleep(LOOK_S)


def make_proxy(folder: Path, port: int, api_ports: Sequence[int]) -> Program:
    """The proxy on a port of its own, before these of the API."""
    own = folder / "proxy"
    own.mkdir()
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    (own / "nginx.conf").write_text(text.replace(" /tmp/", f" {own}/"))
    (own / "listen.conf").write_text(f"listen 127.0.0.1:{port};\n")
    (own / "upstream.conf").write_text(_upstream(api_ports))
    shutil.copy(DEPLOY / "proxy" / "trusted.conf", own)
    user = "user root; " if os.geteuid() == 0 else ""
    command = ["nginx", "-e", "stderr", "-c", str(own / "nginx.conf"), "-g", f"{user}daemon off;"]
    return Program("proxy", command, folder)


def _upstream(api_ports: Sequence[int]) -> str:
    """Without Docker's name server the addresses are given."""
    text = (DEPLOY / "proxy" / "upstream.conf").read_text()
    text, resolvers = re.subn(r"^resolver .*;$", "", text, flags=re.MULTILINE)
    text, servers = re.subn(
        r"server api:8000 resolve (.*;)$",
        lambda found: " ".join(f"server 127.0.0.1:{port} {found[1]}" for port in api_ports),
        text,
        flags=re.MULTILINE,
    )
    assert (resolvers, servers) == (1, 2)
    return text


class Topology:
    """Two API processes behind the proxy, three workers, Redis and Prometheus, all with the files of deploy/."""

    def __init__(self, folder: Path, zoo: Path) -> None:
        self._folder = folder
        self._redis_port, self._proxy_port, self._prometheus_port = free_port(), free_port(), free_port()
        self._api_ports = [free_port() for _ in range(2)]
        self._worker_ports = [free_port() for _ in range(3)]
        self.redis_url = f"redis://:{PASSWORD}@127.0.0.1:{self._redis_port}/0"
        self.address = f"http://127.0.0.1:{self._proxy_port}"
        self.redis = self._redis()
        self.apis = [self._api(index, port) for index, port in enumerate(self._api_ports)]
        self.workers = [self._worker(index, port, zoo) for index, port in enumerate(self._worker_ports)]
        self.proxy = make_proxy(folder, self._proxy_port, self._api_ports)
        self.prometheus = self._prometheus()

    @property
    def programs(self) -> list[Program]:
        return [self.redis, *self.apis, *self.workers, self.proxy, self.prometheus]

    def start(self) -> None:
        for program in self.programs:
            program.start()
        self.wait_for_redis()
        self.wait_for_apis()
        self.wait_for_workers()
        self.wait_for_prometheus()

    def stop(self) -> None:
        """Redis last: the others have something to tell it."""
        for program in self.programs:
            program.send(signal.SIGCONT)
        for programs in (self.programs[1:], self.programs[:1]):
            for program in programs:
                program.send(signal.SIGTERM)
            for program in programs:
                program.wait()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, self.programs)

    def redis_has_written(self) -> bool:
        """Whether its file holds all writes. While it syncs the file, it answers before it writes."""
        with Redis.from_url(self.redis_url) as connection:
            return int(connection.info("persistence")["aof_buffer_length"]) == 0

    def wait_for_redis(self) -> None:
        def answers() -> bool:
            try:
                with Redis.from_url(self.redis_url) as connection:
                    return bool(connection.ping())
            except RedisError:
                return False

        self.until(answers, "Redis answers")

    def wait_for_apis(self) -> None:
        """Until each answers; 503 is an answer where there is no worker yet."""
        for port in self._api_ports:
            self.until(lambda port=port: answers_at(f"http://127.0.0.1:{port}/livez"), "the API answers")  # type: ignore[misc]

    def wait_for_prometheus(self) -> None:
        """Until it has read what it has stored."""
        ready = f"http://127.0.0.1:{self._prometheus_port}/-/ready"
        self.until(lambda: answers_at(ready), "Prometheus answers")

    def wait_for_workers(self) -> None:
        """Until both API processes see all of them and none else."""
        for port in self._api_ports:
            self.until(lambda port=port: _workers(port) == len(self.workers), "all workers are alive")  # type: ignore[misc]

    def worker_values(self, metric: str) -> list[float]:
        """What each worker says of a metric, its labels included. Nothing while one of them is still starting."""
        try:
            pages = [httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text for port in self._worker_ports]
        except httpx.TransportError:
            return []
        return [float(re.findall(rf"^{re.escape(metric)} (\S+)", page, re.MULTILINE)[0]) for page in pages]

    def each_api(self, path: str) -> list[str]:
        """What each API process answers there."""
        return [httpx.get(f"http://127.0.0.1:{port}{path}", timeout=30).text for port in self._api_ports]

    def has_jobs_in_hand(self, worker: int) -> bool:
        return self.worker_values("impasto_worker_jobs_in_hand")[worker] > 0

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers at once."""
        answer = httpx.post(
            f"http://127.0.0.1:{self._prometheus_port}/api/v1/query", data={"query": expression}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules as Prometheus has evaluated them."""
        answer = httpx.get(f"http://127.0.0.1:{self._prometheus_port}/api/v1/rules", timeout=30)
        return [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]

    def _redis(self) -> Program:
        data, config = self._folder / "redis", self._folder / "redis.conf"
        data.mkdir()
        text = (DEPLOY / "redis" / "redis.conf").read_text()
        for theirs, ours in {
            "bind * -::*": "bind 127.0.0.1",
            "port 6379": f"port {self._redis_port}",
            "dir /data": f"dir {data}",
        }.items():
            assert theirs in text
            text = text.replace(theirs, ours)
        config.write_text(text)
        script = services()["redis"]["command"][2].replace("$$", "$").replace("valkey-server", "redis-server")
        script = script.replace("/etc/impasto/redis.conf", str(config))
        script = script.replace("/tmp/password.conf", str(self._folder / "password.conf"))  # noqa: S108
        environment = {"REDIS_PASSWORD": PASSWORD, "REDIS_MAXMEMORY": "256mb"}
        return Program("redis", ["sh", "-c", script], self._folder, environment)

    def _api(self, index: int, port: int) -> Program:
        own = {"REDIS_URL": self.redis_url, "HOST": "127.0.0.1", "PORT": str(port), "CACHE_TTL_S": "60"}
        return self._python(f"api-{index}", "service", {**fixed_environment("api"), **_prefixed(own)})

    def _worker(self, index: int, port: int, zoo: Path) -> Program:
        own = {
            "REDIS_URL": self.redis_url,
            "ZOO_DIR": str(zoo),
            "METRICS_HOST": "127.0.0.1",
            "METRICS_PORT": str(port),
            "DEVICES": "cpu",
            "THREADS": "1",
        }
        return self._python(f"worker-{index}", "worker", {**fixed_environment("worker"), **_prefixed(own)})

    def _python(self, name: str, module: str, environment: dict[str, str]) -> Program:
        return Program(name, [sys.executable, "-m", module], self._folder, environment)

    def _prometheus(self) -> Program:
        folder = self._folder / "prometheus"
        shutil.copytree(DEPLOY / "prometheus", folder)
        config = read_yaml(folder / "prometheus.yml")
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        for job in config["scrape_configs"]:
            # Without Docker's name server the targets come from the files that are there for further ones.
            job.pop("dns_sd_configs", None)
        config["scrape_configs"][-1]["static_configs"] = [{"targets": [f"127.0.0.1:{self._prometheus_port}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        for job_name, ports in (("api", self._api_ports), ("worker", self._worker_ports)):
            targets = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
            (folder / "targets" / f"{job_name}.yml").write_text(yaml.safe_dump(targets))
        replaced = {"--config.file": folder / "prometheus.yml", "--storage.tsdb.path": folder / "data"}
        options = dict(option.split("=", 1) for option in services()["prometheus"]["command"])
        options |= {name: str(value) for name, value in replaced.items()}
        options["--web.listen-address"] = f"127.0.0.1:{self._prometheus_port}"
        return Program(
            "prometheus", ["prometheus", *(f"{name}={value}" for name, value in options.items())], self._folder
        )


def answers_at(url: str) -> bool:
    try:
        return httpx.get(url, timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def _workers(api_port: int) -> int:
    """How many an API process sees; 0 also while it cannot know."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{api_port}/readyz", timeout=30)
    except httpx.TransportError:
        return 0
    return int(answer.json()["workers"]) if answer.status_code == 200 else 0


def _prefixed(settings: dict[str, str]) -> dict[str, str]:
    return {f"IMPASTO_{name}": value for name, value in settings.items()}
