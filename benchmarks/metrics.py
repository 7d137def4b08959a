"""What a worker says of itself to Prometheus."""

from dataclasses import dataclass
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Metrics:
    """Every value at one moment."""

    values: dict[Sample, float]

    @classmethod
    def of(cls, port: int) -> "Metrics":
        """Asks the program that listens there."""
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return cls({(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples})

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name with those labels; 0 where there are none."""
        wanted = labels.items()
        return sum(value for (found, their), value in self.values.items() if found == name and wanted <= their)

    def has(self, name: str) -> bool:
        """Whether there is a sample of that name."""
        return any(found == name for found, _ in self.values)


@dataclass(frozen=True)
class DeviceUse:
    """What a worker's device did between two moments."""

    mean_batch: float
    busy_s: float


def device_use(before: Metrics, after: Metrics) -> DeviceUse:
    """From one worker's metrics. NaN where it had nothing to do."""

    def gain(name: str) -> float:
        return after.total(name) - before.total(name)

    batches, pictures = gain("impasto_worker_batch_pictures_count"), gain("impasto_worker_batch_pictures_sum")
    if not batches:
        return DeviceUse(float("nan"), 0.0)
    return DeviceUse(pictures / batches, gain("impasto_worker_device_busy_seconds_total"))
