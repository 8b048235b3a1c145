"""Memory of GPUs (NVML) and of processes (RSS), and what the GPUs draw. "Not measured" is None, never 0."""

import psutil
from pydantic import BaseModel, ConfigDict

from labs.cluster import nvml


class GpuReading(BaseModel):
    """One GPU at one moment, as NVML reports it, all processes together."""

    model_config = ConfigDict(frozen=True)

    index: int
    used_bytes: int
    total_bytes: int
    power_watts: float | None  # averaged by the driver over about a second
    energy_joules: float | None  # since the driver was loaded; subtract two readings (Volta and newer)


class GpuProcess(BaseModel):
    """A process that holds memory of a GPU. Inside a container the pid may be the host's."""

    model_config = ConfigDict(frozen=True)

    gpu: int
    pid: int
    used_bytes: int | None
    command: str | None  # None where the process is not visible from here


def gpu_readings() -> list[GpuReading]:
    """Memory, power and energy of each visible GPU; an empty list without GPUs."""
    with nvml.session() as lib:
        if lib is None:
            return []
        readings = []
        for index, handle in nvml.visible_devices(lib):
            used = lib.nvmlDeviceGetMemoryInfo(handle)
            readings.append(
                GpuReading(
                    index=index,
                    used_bytes=int(used.used),
                    total_bytes=int(used.total),
                    power_watts=_milli(lib, lib.nvmlDeviceGetPowerUsage, handle),
                    energy_joules=_milli(lib, lib.nvmlDeviceGetTotalEnergyConsumption, handle),
                )
            )
        return readings


def gpu_processes() -> list[GpuProcess]:
    """The processes that hold memory of the visible GPUs."""
    with nvml.session() as lib:
        if lib is None:
            return []
        return [
            GpuProcess(gpu=index, pid=one.pid, used_bytes=one.usedGpuMemory, command=_command(one.pid))
            for index, handle in nvml.visible_devices(lib)
            for one in lib.nvmlDeviceGetComputeRunningProcesses(handle)
        ]


def rss(pid: int | None = None) -> int | None:
    """Resident bytes of one process (this one by default); None once it is gone."""
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return None


def tree_rss(pid: int) -> int | None:
    """Resident bytes of a process and all its descendants; pages that they share count once for each."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return None
    sizes = [size for size in map(rss, [pid, *(child.pid for child in children)]) if size is not None]
    return sum(sizes) if sizes else None


def _milli(lib, query, handle) -> float | None:
    try:
        return query(handle) / 1000
    except lib.NVMLError:
        return None


def _command(pid: int) -> str | None:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:160]
    except psutil.Error:
        return None
