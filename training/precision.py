"""Which precision a device trains in."""

import torch

PRECISIONS = ("auto", "float32")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware.

    PyTorch computes it everywhere, but a processor without the instructions takes twenty times as long as for float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """A context in which networks run in bfloat16 where the device has it, else, or for `float32`, in float32."""
    enabled = precision == "auto" and has_bfloat16(device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
