"""Choose the precision that the device computes fastest."""

import torch


def auto_precision(accelerator: str) -> str:
    """Return `bf16-mixed` if the device computes bf16 in hardware, else `32-true`.

    Args:
        accelerator: as in `lightning.Trainer`; `auto` prefers a GPU to the CPU.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        fast = _cpu_has_bf16()
    else:
        fast = False
    return "bf16-mixed" if fast else "32-true"


def _cpu_has_bf16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
