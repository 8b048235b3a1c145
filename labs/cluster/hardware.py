"""What hardware is here, read without CUDA and without torch, and what it allows."""

import math
import os
import platform
import re
from collections import Counter
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict

from labs.cluster import nvml
from labs.core.errors import UserError

Profile = Literal["cpu", "gpu"]
MOST_CPU_RANKS = 8


class Gpu(BaseModel):
    """One visible GPU. `index` is NVML's, the one that nvidia-smi prints."""

    model_config = ConfigDict(frozen=True)

    index: int
    name: str
    memory_bytes: int
    uuid: str | None = None


class Hardware(BaseModel):
    """The machine, as far as the course cares. Sizes in bytes."""

    model_config = ConfigDict(frozen=True)

    summary: str  # "4x NVIDIA H200" or "CPU, 2 cores, Intel Xeon …"
    gpus: list[Gpu]
    cpu_model: str
    cpu_cores: int  # usable by this process: affinity and the container's quota
    memory_bytes: int  # usable: the container's limit where there is one
    driver: str | None
    nvlink: bool | None  # between every pair of GPUs; None with fewer than two or where NVML cannot tell
    os: str


def detect() -> Hardware:
    """The hardware of this machine; GPUs as CUDA_VISIBLE_DEVICES leaves them. Cached."""
    return _detect(os.environ.get("CUDA_VISIBLE_DEVICES"))


@lru_cache
def _detect(visible: str | None) -> Hardware:
    gpus, driver, nvlink = _gpus()
    cpu_model, cpu_cores = _cpu_model(), usable_cores()
    return Hardware(
        summary=summarise([gpu.name for gpu in gpus], cpu_cores, cpu_model),
        gpus=gpus,
        cpu_model=cpu_model,
        cpu_cores=cpu_cores,
        memory_bytes=usable_memory(),
        driver=driver,
        nvlink=nvlink,
        os=_os_name(),
    )


def summarise(gpu_names: list[str], cores: int, cpu_model: str) -> str:
    """One line: "4x NVIDIA H200", "1x NVIDIA A10G + 1x NVIDIA L4" or "CPU, 2 cores, …"."""
    if gpu_names:
        return " + ".join(f"{count}x {name}" for name, count in Counter(gpu_names).items())
    return f"CPU, {cores} core{'s' if cores != 1 else ''}, {cpu_model}"


def resolve_profile(name: str) -> Profile:
    """`auto`, `cpu` or `gpu` -> `cpu` or `gpu`.

    `auto` is COURSE_PROFILE where that is set, else `gpu` if there is a GPU. UserError for an unknown name
    and for `gpu` without a GPU.
    """
    origin = ""
    if name == "auto" and (given := os.environ.get("COURSE_PROFILE")):
        name, origin = given, " in COURSE_PROFILE"
    gpus = detect().gpus
    if name == "auto":
        return "gpu" if gpus else "cpu"
    if name == "gpu" and not gpus:
        raise UserError(f"profile 'gpu'{origin} needs a GPU; this machine has none; use cpu or auto")
    if name not in ("cpu", "gpu"):
        raise UserError(f"unknown profile {name!r}{origin}; use auto, cpu or gpu")
    return "gpu" if name == "gpu" else "cpu"


def check_tp(tp: int, hardware: Hardware, profile: str) -> None:
    """UserError where this machine cannot run `tp` ranks: one GPU a rank, or at most 8 ranks on a CPU."""
    if tp < 1:
        raise UserError(f"TP={tp} is not a number of ranks; use {_either(tp_sizes(hardware, profile))}")
    if profile == "cpu":
        if tp > MOST_CPU_RANKS:
            raise UserError(f"TP={tp} is more than a CPU run takes ({MOST_CPU_RANKS}); use 1, 2, 4 or 8")
        return
    have = len(hardware.gpus)
    if tp > have:
        use = f"use {_either(tp_sizes(hardware, profile))}" if have else "use profile cpu"
        raise UserError(f"TP={tp} needs {tp} GPUs; this machine has {have}; {use}")


def tp_sizes(hardware: Hardware, profile: str) -> list[int]:
    """The powers of two up to the number of GPUs (CPU: up to 8), the TP sizes that most models divide by."""
    most = MOST_CPU_RANKS if profile == "cpu" else len(hardware.gpus)
    return [2**i for i in range(most.bit_length())] if most else []


def _either(sizes: list[int]) -> str:
    return " or ".join([", ".join(map(str, sizes[:-1])), str(sizes[-1])] if sizes[1:] else map(str, sizes))


def _gpus() -> tuple[list[Gpu], str | None, bool | None]:
    with nvml.session() as lib:
        if lib is None:
            return [], None, None
        devices = nvml.visible_devices(lib)
        gpus = [
            Gpu(
                index=index,
                name=nvml.text(lib.nvmlDeviceGetName(handle)),
                memory_bytes=int(lib.nvmlDeviceGetMemoryInfo(handle).total),
                uuid=nvml.text(lib.nvmlDeviceGetUUID(handle)),
            )
            for index, handle in devices
        ]
        pairs = [nvml.pair_status(lib, a[1], b[1], "NVLINK") for a, b in combinations(devices, 2)]
        nvlink = None if not pairs or None in pairs else all(pairs)
        return gpus, nvml.text(lib.nvmlSystemGetDriverVersion()), nvlink


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or the container's CPU quota where that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read("/sys/fs/cgroup/cpu.max").split()  # "200000 100000", or "max 100000"
    if len(quota) == 2 and quota[0].isdigit() and int(quota[1]):
        cores = min(cores, math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, cores)


def usable_memory() -> int:
    """Bytes of memory: the machine's, or the container's limit where that is less."""
    total = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _read(path).strip()
        if limit.isdigit():
            total = min(total, int(limit))
    return total


def free_memory() -> int:
    """Bytes that a new process can have: the machine's, or what the container's limit leaves."""
    free = psutil.virtual_memory().available
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        cache = re.search(r"^inactive_file (\d+)$", _read("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
        free = min(free, int(limit) - int(used) + (int(cache.group(1)) if cache else 0))
    return max(0, free)


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _os_name() -> str:
    kernel = ".".join(platform.release().split(".")[:2])
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {kernel}"
    return f"{name}, {platform.system()} {kernel}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
