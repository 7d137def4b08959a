"""Who may import whom: the arrows of ARCHITECTURE.md, read off the code."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "worker", "training", "models")
STANDARD_LIBRARY_ONLY = ("models.card", "worker.contract", "worker.processes")

ALLOWED = {
    "service": ("service", "worker.contract", "worker.processes", "worker.redis_program"),
    "worker": ("worker", "models.card"),
    "training": ("training", "models"),
    "models": ("models",),
}


def modules(package: str) -> Iterator[Path]:
    return (ROOT / package).rglob("*.py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in modules(package):
        for name in imports(path):
            if name.split(".")[0] not in PACKAGES:
                continue
            # `from models import card` names the package as well as the module.
            allowed = any(name == prefix or name.startswith(f"{prefix}.") for prefix in ALLOWED[package])
            assert allowed or any(prefix.startswith(f"{name}.") for prefix in ALLOWED[package]), (
                f"{path.relative_to(ROOT)} imports {name}"
            )


def test_models_need_torch_alone() -> None:
    for path in modules("models"):
        for name in imports(path):
            top = name.split(".")[0]
            assert top in {"models", "torch"} | sys.stdlib_module_names, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_contracts_need_the_standard_library_alone(module: str) -> None:
    for name in imports(ROOT / f"{module.replace('.', '/')}.py"):
        assert name.split(".")[0] in sys.stdlib_module_names, f"{module} imports {name}"


@pytest.mark.parametrize("module", ["service.app", "service.__main__"])
def test_the_service_loads_no_torch(module: str) -> None:
    script = f"import sys, {module}; print(sorted({{'torch', 'openvino', 'torchvision'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_few_files_touch_rq() -> None:
    touching = {
        str(path.relative_to(ROOT))
        for package in ("service", "worker")
        for path in modules(package)
        if any(name.split(".")[0] == "rq" for name in imports(path))
    }
    of_service = {"service/enqueueing.py", "service/rq_client.py"}
    assert touching == {*of_service, "worker/closing.py", "worker/consumer.py", "worker/lanes.py"}
