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
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NVIDIA_SMI = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")  # the second is where WSL 2 keeps it
MESSAGE_LINES = 12  # of pip's log, shown when it fails


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
        hint = "; on Debian or Ubuntu: apt-get install python3-venv" if "ensurepip" in made.stdout else ""
        found = (made.stderr or made.stdout).strip().splitlines() or ["no message"]
        raise SetupFailed(f"{sys.executable} -m venv {venv} failed: {found[-1]}{hint}")
    return python


def install_torch_cpu(python: Path, log: Path, pin: str, index: str) -> None:
    """The CPU build, from what pip is configured to use, else from PyTorch's index: PyPI has none."""
    wanted = pin if "+cpu" in pin else f"{pin}+cpu"
    if not pip(python, log, "--no-deps", wanted, needed=False):
        pip(python, log, "--no-deps", "--index-url", index, wanted)


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
    with step("environment"):
        python = make_venv(venv, fresh)
    ready.unlink(missing_ok=True)
    log = venv / "install.log"
    if device == "cpu":
        torch = next(line for line in lines if line.startswith("torch=="))
        with step(f"PyTorch ({torch}, CPU)"):
            install_torch_cpu(python, log, torch, torch_index)
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(lines) + "\n")
        with step(f"vLLM, JupyterLab and the rest ({len(lines)} packages)"):
            pip(python, log, "--no-deps", "-r", str(requirements))
    with step("the lab package"):
        pip(python, log, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    with step("byte code"):  # here on every core; pip would do it on one, and each first import otherwise
        command = [str(python), "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", str(venv / "lib")]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    with step("check"):
        check(python, device)
    ready.write_text(fingerprint(device) + "\n")
    print(f"Ready after {time.monotonic() - began:.0f} s.", flush=True)


def check(python: Path, device: str) -> None:
    """The build of torch is the one that was asked for."""
    code = "import torch; print(torch.version.cuda or 'none')"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    cuda = found.stdout.strip()
    if found.returncode != 0:
        raise SetupFailed(f"torch does not import: {found.stderr.strip().splitlines()[-1]}")
    if device == "cuda" and cuda == "none":
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
    with (ROOT / "tools" / "install.py").open() as lock:  # two `make` at once: the second one waits
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
