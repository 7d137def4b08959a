"""Chooses the runtime for what this machine has."""

import importlib.util

import torch

from worker.errors import StartError
from worker.runtimes import Runtime


def choose_runtime(runtime: str, device: str, precision: str, threads: int, *, cuda_graphs: bool = False) -> Runtime:
    """The runtime for the settings of those names. Raises `StartError` for what this machine cannot do."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_gpu(device)
    has_openvino = importlib.util.find_spec("openvino") is not None
    if runtime == "openvino" and (device != "cpu" or not has_openvino):
        raise StartError("IMPASTO_RUNTIME is openvino, which needs the package openvino and a CPU: set it to auto.")
    if threads:
        torch.set_num_threads(threads)
    try:
        if device == "cpu" and has_openvino and runtime != "torchscript":
            # Imported here alone: the package is optional.
            from worker.runtimes.openvino import OpenVinoRuntime

            return OpenVinoRuntime(precision, threads)
        from worker.runtimes.torchscript import TorchScriptRuntime

        return TorchScriptRuntime(device, precision, cuda_graphs=cuda_graphs)
    except ValueError as error:
        raise StartError(f"IMPASTO_PRECISION: {error}") from error


def _check_gpu(device: str) -> None:
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise StartError(f"IMPASTO_DEVICES names {device}, but PyTorch sees no GPU here: set it to cpu or auto.")
    count = torch.cuda.device_count()
    if (torch.device(device).index or 0) >= count:
        raise StartError(f"IMPASTO_DEVICES names {device}, but there are only cuda:0 to cuda:{count - 1}.")
