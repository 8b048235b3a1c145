"""Print the path of a Chromium for the browser test; get one if the machine has none.

Looked for: $CHROMIUM, then Chromium or Chrome on the PATH, then the one that Playwright keeps in its cache.
If there is none: Debian's package when run as root where apt-get has it, else Playwright's own download.
Exit code 1 with one line when neither works.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TIMEOUT = 600  # seconds for a download on a slow line


def works(path: str) -> bool:
    """A browser that prints its version: on Ubuntu `chromium-browser` may be a stub without one."""
    try:
        found = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0 and "Chrom" in found.stdout


def find() -> str | None:
    named = os.environ.get("CHROMIUM")
    if named:
        return named if works(named) else None
    for name in NAMES:
        path = shutil.which(name)
        if path and works(path):
            return path
    return playwrights_own()


def playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() and works(path) else None


def fetch() -> None:
    """Try each way in turn; `find` says whether one worked."""
    root = os.geteuid() == 0
    if root and shutil.which("apt-get"):
        say("installing the package chromium")
        quiet("apt-get", "update")
        quiet("apt-get", "install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core")
        if find():
            return
    say("downloading Playwright's Chromium")
    quiet(sys.executable, "-m", "playwright", "install", *(["--with-deps"] if root else []), "chromium")


def quiet(*command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say(f"{command[0]} did not finish within {TIMEOUT} s")


def say(line: str) -> None:
    print(f"browser: {line}", file=sys.stderr, flush=True)


def main() -> None:
    path = find()
    if path is None and os.environ.get("CHROMIUM"):
        sys.exit(f"browser: CHROMIUM={os.environ['CHROMIUM']} does not start; name another or unset it")
    if path is None:
        fetch()
        path = find()
    if path is None:
        sys.exit(
            "browser: no Chromium found and none could be fetched; install one (Debian: apt-get install "
            "chromium) or name it: make test CHROMIUM=/path/to/chromium"
        )
    print(path)


if __name__ == "__main__":
    main()
