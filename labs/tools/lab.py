"""Start JupyterLab for the course and print its whole address, token included.

    labs/tools/lab.py lab    on 127.0.0.1: for the machine that one sits at, or through an SSH tunnel
    labs/tools/lab.py pod    on all interfaces: for a rented pod, also behind a proxy that rewrites Host

$JUPYTER_TOKEN sets the token; without it a new one is made. There is no way to start without one. $PORT is
the port (8888); one that is taken is refused. For `pod`, $LABS_ALLOW_ORIGIN is a regular expression of one
more origin (such as https://lab\\.example\\.org) from which a browser may connect; Runpod's proxy is always
allowed. A mistake is one line and exit code 2.
"""

import os
import re
import socket
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
RUNPOD = r"https://[a-z0-9-]+\.proxy\.runpod\.net"


def refuse(message: str) -> NoReturn:
    """One line on standard error, and exit code 2."""
    print(f"lab: {message}", file=sys.stderr)
    sys.exit(2)


def origin_pattern(extra: str) -> str:
    """Origins that may open kernel connections, as one anchored pattern.

    A proxy that rewrites Host makes the page's origin differ from the server's, which Jupyter refuses with
    403 for the kernels' websockets unless the origin is named.
    """
    parts = [RUNPOD, *([extra] if extra else [])]
    return r"\A(?:" + "|".join(f"(?:{part})" for part in parts) + r")\Z"


def check_pattern(extra: str) -> None:
    """A pattern that is broken, or that lets every origin in, is a mistake."""
    try:
        everybody = re.fullmatch(extra, "https://somebody-else.invalid") is not None
    except re.error as error:
        refuse(f"LABS_ALLOW_ORIGIN={extra!r} is not a regular expression: {error}")
    if everybody:
        refuse(f"LABS_ALLOW_ORIGIN={extra!r} lets every origin in; name the one of your proxy")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Jupyter does
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def arguments(kind: str) -> list[str]:
    """Jupyter's command line for `lab` or `pod`."""
    port = os.environ.get("PORT") or "8888"
    if not port.isdigit() or not 0 < int(port) < 65536:
        refuse(f"PORT={port!r} is not a port; give a number from 1 to 65535")
    host = "127.0.0.1" if kind == "lab" else "0.0.0.0"
    if not is_free(host, int(port)):
        refuse(
            f"port {port} is taken by another program; name another: make {kind} PORT={int(port) % 65535 + 1}"
        )
    common = [
        f"--ServerApp.ip={host}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--log-level=WARN",
        "--LabApp.log_level=WARN",
    ]
    if kind == "lab":
        return [*common, *(["--allow-root"] if os.geteuid() == 0 else [])]
    extra = os.environ.get("LABS_ALLOW_ORIGIN", "")
    check_pattern(extra)
    return [
        *common,
        "--allow-root",
        f"--ServerApp.allow_origin_pat={origin_pattern(extra)}",
    ]


def addresses(kind: str, port: int, path: str, token: str) -> list[str]:
    """Where to open it, whole, best first."""
    tail = f"{path}?token={quote(token)}"
    pod = os.environ.get("RUNPOD_POD_ID")
    found = [f"https://{pod}-{port}.proxy.runpod.net{tail}"] if kind == "pod" and pod else []
    if kind == "pod" and not pod:
        found.append(f"http://{socket.gethostname()}:{port}{tail}")
    return [*found, f"http://127.0.0.1:{port}{tail}"]


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) == 2 else ""
    if kind not in ("lab", "pod"):
        refuse("usage: labs/tools/lab.py lab|pod")
    os.environ["JUPYTER_CONFIG_DIR"] = str(ROOT / ".jupyter")
    from jupyterlab.labapp import LabApp

    server = LabApp.initialize_server(argv=arguments(kind))
    token = server.identity_provider.token
    if not token:
        refuse("Jupyter has no token, so it is not started; look for a system-wide Jupyter configuration")
    print("JupyterLab runs; open this address (Ctrl-C here ends it):")
    for address in addresses(kind, server.port, server.default_url, token):
        print(f"  {address}")
    if kind == "pod":
        print("Everybody who has the token can run code here: keep the address to yourself.")
    sys.stdout.flush()
    server.start()


if __name__ == "__main__":
    main()
