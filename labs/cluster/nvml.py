"""NVML, the library behind nvidia-smi. It reads the GPUs without CUDA, so the notebook's kernel may call it.

Source: https://docs.nvidia.com/deploy/nvml-api/ (Python binding: nvidia-ml-py, module `pynvml`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def session() -> Iterator[ModuleType | None]:
    """Yield `pynvml`, initialised, or None where the binding, the driver or the GPUs are absent."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # ImportError, NVMLError: both mean that there is nothing to ask
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def visible_devices(nvml: ModuleType) -> list[tuple[int, Any]]:
    """(NVML index, handle) of each GPU that CUDA_VISIBLE_DEVICES leaves visible, in its order.

    Entries are indices or UUIDs ("GPU-…", a unique prefix is enough). As in CUDA, the first entry that names
    no GPU ends the list. MIG slices are not resolved.
    """
    handles = [(i, nvml.nvmlDeviceGetHandleByIndex(i)) for i in range(nvml.nvmlDeviceGetCount())]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return handles
    uuids = [text(nvml.nvmlDeviceGetUUID(handle)) for _, handle in handles]
    return [handles[i] for i in select(wanted, uuids)]


def select(wanted: str, uuids: list[str]) -> list[int]:
    """The indices that a CUDA_VISIBLE_DEVICES string chooses among GPUs with these UUIDs."""
    chosen: list[int] = []
    for entry in (part.strip() for part in wanted.split(",")):
        if entry.isdigit() and int(entry) < len(uuids):
            match = [int(entry)]
        else:
            match = [i for i, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)]
        if len(match) != 1 or match[0] in chosen:
            break
        chosen += match
    return chosen


def text(value: str | bytes) -> str:
    """NVML strings are bytes in old bindings."""
    return value.decode() if isinstance(value, bytes) else value


def pair_status(nvml: ModuleType, first: Any, second: Any, capability: str) -> bool | None:
    """Whether two GPUs reach each other by "NVLINK", "READ" or "WRITE"; None where NVML cannot tell."""
    try:
        index = getattr(nvml, f"NVML_P2P_CAPS_INDEX_{capability}")
        return nvml.nvmlDeviceGetP2PStatus(first, second, index) == nvml.NVML_P2P_STATUS_OK
    except (nvml.NVMLError, AttributeError):
        return None
