"""The doctor's findings about GPUs, all read through NVML."""

import contextlib
from itertools import combinations
from types import ModuleType
from typing import Any

from labs.cluster import hardware, memory, nvml
from labs.cluster.finding import GIB, Finding, Status, gib, names

UNSEEN_MEMORY = 1 * GIB  # more than an idle driver keeps
ALL_FIGURES = "Notebooks run on the CPU with the tiny model and show recorded runs of real GPUs beside yours."


def findings() -> list[Finding]:
    """All of them; without a GPU one says so and the others are absent."""
    return [_gpus(), _driver(), _links(), _holders()]


def _gpus() -> Finding:
    machine = hardware.detect()
    if not machine.gpus:
        return Finding(
            name="GPUs",
            status="absent",
            found="none visible",
            meaning=f"Profile cpu, TP 1 and 2 (up to {hardware.MOST_CPU_RANKS}). {ALL_FIGURES}",
        )
    sizes = hardware.tp_sizes(machine, "gpu")
    smallest = min(gpu.memory_bytes for gpu in machine.gpus)
    fits = (
        "Qwen2.5-7B (15 GiB of weights) fits on one"
        if smallest > 20 * GIB
        else ("Qwen2.5-7B (15 GiB of weights) needs TP=2 here, or take a smaller MODEL")
    )
    return Finding(
        name="GPUs",
        status="ok",
        found=f"{machine.summary}, {gib(smallest)} each",
        meaning=f"Profile gpu; TP {names(sizes)} can run where the model's heads divide by it. {fits}.",
    )


def _driver() -> Finding:
    driver = hardware.detect().driver
    if driver is None:
        return Finding(
            name="Driver",
            status="absent",
            found="no NVIDIA driver",
            meaning="Nothing to do on a machine without a GPU; a container sees the host's with --gpus all.",
        )
    cuda = driver_cuda()
    newest = f", CUDA up to {cuda[0]}.{cuda[1]}" if cuda else ""
    return Finding(
        name="Driver",
        status="ok",
        found=f"{driver}{newest}",
        meaning="torch must not be built for a newer major version of CUDA than the driver's (see torch).",
    )


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA version that the driver runs, or None without a driver."""
    with nvml.session() as lib:
        if lib is None:
            return None
        version = lib.nvmlSystemGetCudaDriverVersion()
        return version // 1000, version % 1000 // 10


def _links() -> Finding:
    with nvml.session() as lib:
        devices = nvml.visible_devices(lib) if lib is not None else []
        if lib is None or len(devices) < 2:
            return Finding(
                name="GPU links",
                status="absent",
                found="fewer than two GPUs",
                meaning="Nothing to connect: tensor parallelism over GPUs needs two or more.",
            )
        kinds = {(a[0], b[0]): _link(lib, a[1], b[1]) for a, b in combinations(devices, 2)}
        return judge_links(kinds, _nvlinks(lib, devices[0][1]))


def _link(lib: ModuleType, first: Any, second: Any) -> str:
    """How two GPUs reach each other: "NVLink", "PCIe P2P", "no P2P" or "unknown"."""
    if nvml.pair_status(lib, first, second, "NVLINK"):
        return "NVLink"
    both = [nvml.pair_status(lib, first, second, way) for way in ("READ", "WRITE")]
    return "unknown" if None in both else "PCIe P2P" if all(both) else "no P2P"


def judge_links(kinds: dict[tuple[int, int], str], nvlinks: int | None) -> Finding:
    """The finding for the links between all pairs of GPUs; `nvlinks` is how many one GPU has up."""
    groups: dict[str, list[str]] = {}
    for (a, b), kind in kinds.items():
        groups.setdefault(kind, []).append(f"{a}-{b}")
    each = f" ({nvlinks} links a GPU)" if nvlinks and "NVLink" in groups else ""
    if len(groups) == 1:
        found = f"{next(iter(groups))} between all {len(kinds)} pairs{each}"
    else:
        found = "; ".join(f"{kind}: {', '.join(pairs)}" for kind, pairs in groups.items()) + each
    if set(groups) == {"NVLink"}:
        meaning = "All-reduces go over NVLink at every TP size."
    elif "no P2P" in groups:
        meaning = (
            "Pairs without P2P send through the host's memory: all-reduces are slow and TP gains little or "
            "loses. If the machine should have P2P, look at its IOMMU and ACS settings."
        )
    elif "unknown" in groups:
        meaning = "NVML does not tell here; `nvidia-smi topo -p2p r` may. Timings will show it."
    else:
        meaning = (
            "Pairs over PCIe have a small part of NVLink's bandwidth: communication is a larger share of "
            "each step than in the recorded runs. Where some pairs have NVLink, choose those "
            "(CUDA_VISIBLE_DEVICES)."
        )
    status: Status = "ok" if set(groups) == {"NVLink"} else "warn"
    return Finding(name="GPU links", status=status, found=found, meaning=meaning)


def _nvlinks(lib: ModuleType, handle: Any) -> int | None:
    up = 0
    for link in range(lib.NVML_NVLINK_MAX_LINKS):
        with contextlib.suppress(lib.NVMLError):
            up += lib.nvmlDeviceGetNvLinkState(handle, link) == lib.NVML_FEATURE_ENABLED
    return up or None


def _holders() -> Finding:
    readings = memory.gpu_readings()
    if not readings:
        return Finding(
            name="GPU memory", status="absent", found="no GPU", meaning="Nothing can hold a GPU's memory."
        )
    return judge_holders(readings, memory.gpu_processes())


def judge_holders(readings: list[memory.GpuReading], holders: list[memory.GpuProcess]) -> Finding:
    """The finding about who holds the memory of the GPUs."""
    used = ", ".join(f"GPU {one.index} {gib(one.used_bytes)} of {gib(one.total_bytes)}" for one in readings)
    if holders:
        listed = "; ".join(_holder(one) for one in holders[:8])
        return Finding(
            name="GPU memory",
            status="warn",
            found=f"used: {used}. Held by {listed}{' …' if holders[8:] else ''}",
            meaning="vLLM claims its share of the whole memory and may not start beside them: end what you "
            "do not need (`python -m labs sweep` ends what earlier runs left).",
        )
    if any(one.used_bytes > UNSEEN_MEMORY for one in readings):
        return Finding(
            name="GPU memory",
            status="warn",
            found=f"used: {used}, by processes that are not visible from here",
            meaning="Another container or user holds this memory; vLLM may not start. Lower "
            "gpu_memory_utilization or take a GPU of your own.",
        )
    return Finding(
        name="GPU memory", status="ok", found=f"used: {used}", meaning="No process holds memory of a GPU."
    )


def _holder(one: memory.GpuProcess) -> str:
    size = gib(one.used_bytes) if one.used_bytes is not None else "size unknown"
    return f"pid {one.pid} on GPU {one.gpu} ({size}, {(one.command or 'not visible from here')[:50]})"
