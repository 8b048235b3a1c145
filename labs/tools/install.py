"""Make the environment that the Makefile uses: a venv, PyTorch, vLLM and the rest of constraints.txt.

Only the standard library, since it runs before anything is installed. It returns at once when the environment
already holds what pyproject.toml and constraints.txt say. Exit code 1 with one line when it cannot go on.

    python3 labs/tools/install.py [--venv .venv] [--device auto|cpu|cuda] [--torch-index URL]
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036, before anything that an older Python would choke on
    sys.exit(
        f"The workbook needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. "
        "Name a newer one: make PYTHON=/path/to/python3.11 ..."
    )
if not sys.platform.startswith("linux"):
    sys.exit(
        f"The workbook needs Linux, since vLLM does; this is {sys.platform}. "
        "Open the checkout in the container of .devcontainer/ instead."
    )

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NVIDIA_SMI = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")  # the second is where WSL 2 keeps it
MESSAGE_LINES = 12  # of pip's log, shown when it fails
PIPS = 2  # at once, beside the one for torch
FIRST_IMPORTS = (  # in two processes at once
    "torch, vllm, vllm.entrypoints.openai.api_server, vllm.v1.engine.llm_engine, "
    "vllm.model_executor.models.qwen2, transformers.models.qwen2.modeling_qwen2",
    "jupyterlab.labapp, papermill, nbclient, ipykernel.kernelapp, ipywidgets, plotly.graph_objects, pytest",
)


class SetupFailed(Exception):
    """One line: what failed and what to do."""


def has_nvidia_gpu() -> bool:
    """A GPU is here if the driver made its device file or nvidia-smi lists one."""
    if Path("/dev/nvidia0").exists():
        return True
    for command in NVIDIA_SMI:
        if shutil.which(command):
            listed = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
            if listed.returncode == 0 and "GPU " in listed.stdout:
                return True
    return False


def sections(text: str) -> dict[str, list[str]]:
    """The pins of constraints.txt by section: "both", "cpu", "cuda"."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("# [") and line.endswith("]"):
            current = found.setdefault(line[3:-1], [])
        elif line and not line.startswith("#"):
            current.append(line)
    return found


def fingerprint(device: str) -> str:
    """What the environment is made from; it is made again when this changes."""
    parts = [device, str(ROOT), (ROOT / "pyproject.toml").read_text(), CONSTRAINTS.read_text()]
    return f"{device} {hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}"


@contextmanager
def step(what: str) -> Iterator[None]:
    """One line: what is done, and the seconds that it took."""
    print(f"  {what:<58}", end="", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:5.0f} s", flush=True)


def pip(python: Path, log: Path, *arguments: str, needed: bool = True) -> bool:
    """Run pip quietly. False if it failed and that is allowed; SetupFailed with its last lines otherwise."""
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--no-compile"]
    with log.open("a") as out:
        out.write(f"\n$ pip install {' '.join(arguments)}\n")
        out.flush()
        command = [str(python), "-m", "pip", "install", *options, *arguments]
        if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode == 0:
            return True
    if needed:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-MESSAGE_LINES:])
        raise SetupFailed(f"pip failed; the whole log is {log}\n{last}")
    return False


def make_venv(venv: Path, fresh: bool) -> Path:
    """An environment with pip at `venv`; an existing one (conda's, say) is used as it is unless `fresh`."""
    python = venv / "bin" / "python"
    if python.exists() and not fresh:
        return python
    command = [sys.executable, "-m", "venv", *(["--clear"] if fresh else []), str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        if "ensurepip" in made.stdout + made.stderr:
            install_it = "on Debian or Ubuntu: apt-get install python3-venv"
            raise SetupFailed(f"{sys.executable} cannot make environments, it has no ensurepip; {install_it}")
        found = (made.stderr or made.stdout).strip().splitlines() or ["no message"]
        raise SetupFailed(f"{sys.executable} -m venv {venv} failed: {found[-1]}")
    return python


def install_torch_cpu(python: Path, log: Path, pin: str, index: str) -> None:
    """The CPU build, from what pip is configured to use, else from PyTorch's index: PyPI has none."""
    wanted = pin if "+cpu" in pin else f"{pin}+cpu"
    if not pip(python, log, "--no-deps", wanted, needed=False):
        pip(python, log, "--no-deps", "--index-url", index, wanted)


def install_packages(python: Path, venv: Path, lines: list[str], torch_index: str, fresh: bool) -> None:
    """All packages, in a few pips at once where nothing has to be removed first: one alone waits too often.

    No pip resolves anything and no two have a package in common. A `torch_index` asks for torch's CPU build.
    """
    torch = next(line for line in lines if line.startswith("torch=="))
    rest = [line for line in lines if line != torch or not torch_index]
    parts = [rest[at::PIPS] for at in range(PIPS)] if fresh else [rest]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PIPS + 1 if fresh else 1) as pool:
        running: list[Future[Any]] = []
        if torch_index:
            log = venv / "install-torch.log"
            running.append(pool.submit(install_torch_cpu, python, log, torch, torch_index))
        for number, part in enumerate(parts, 1):
            requirements = Path(folder) / f"{number}.txt"
            requirements.write_text("\n".join(part) + "\n")
            log = venv / f"install-{number}.log"
            running.append(pool.submit(pip, python, log, "--no-deps", "-r", str(requirements)))
    for job in running:
        job.result()


def install(venv: Path, device: str, torch_index: str) -> None:
    """Put everything into `venv`. Safe to repeat after it was interrupted."""
    other = {"cpu": "cuda", "cuda": "cpu"}[device]
    ready = venv / "workbook-ready"
    fresh = ready.exists() and ready.read_text().startswith(other)
    pins = sections(CONSTRAINTS.read_text())
    lines = pins["both"] + pins[device]
    began = time.monotonic()
    kind = "CUDA build, a download of several GB" if device == "cuda" else "CPU build"
    print(f"Setting up {os.path.relpath(venv)} for Python {platform.python_version()}, {kind}", flush=True)
    fresh = fresh or not (venv / "bin" / "python").exists()
    with step("environment"):
        python = make_venv(venv, fresh)
    ready.unlink(missing_ok=True)
    with step(f"PyTorch, vLLM, JupyterLab and the rest ({len(lines)} packages)"):
        install_packages(python, venv, lines, torch_index if device == "cpu" else "", fresh)
    with step("the lab package"):
        log = venv / "install.log"
        pip(python, log, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    with step("first imports, and a check of the build"):
        check(python, device)
    ready.write_text(fingerprint(device) + "\n")
    print(f"Ready after {time.monotonic() - began:.0f} s.", flush=True)


def check(python: Path, device: str) -> None:
    """What the course imports does import, and the build of torch is the one that was asked for.

    The imports also write the byte code that later starts read: pip compiling every package takes four times
    as long, and ranks that start together would each compile the same modules.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    imports = [f"import {names}" for names in FIRST_IMPORTS]
    imports[0] += "; print('cuda:', torch.version.cuda or 'none')"
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([str(python), "-c", code], env=environment, text=True, stdout=pipe, stderr=pipe)
        for code in imports
    ]
    printed = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, printed, strict=True):
        if process.returncode != 0:
            raise SetupFailed(f"an import failed: {(errors.strip().splitlines() or ['no message'])[-1]}")
    if device == "cuda" and "cuda: none" in printed[0][0]:
        raise SetupFailed("torch came as a CPU build; does pip's configuration name a folder of wheels?")


def main() -> None:
    parser = argparse.ArgumentParser(description="make the workbook's Python environment")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="which build")
    parser.add_argument("--torch-index", default=TORCH_INDEX, help="package index with torch's CPU build")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "auto":
        device = "cuda" if has_nvidia_gpu() else "cpu"
    venv = Path(os.path.abspath(arguments.venv))
    ready = venv / "workbook-ready"
    wanted = fingerprint(device)
    with Path(__file__).open() as lock:  # two `make` at once: the second one waits
        fcntl.flock(lock, fcntl.LOCK_EX)
        if ready.exists() and ready.read_text().strip() == wanted and (venv / "bin" / "python").exists():
            return
        try:
            install(venv, device, arguments.torch_index)
        except SetupFailed as failure:
            print()
            sys.exit(f"setup: {failure}")


if __name__ == "__main__":
    main()
