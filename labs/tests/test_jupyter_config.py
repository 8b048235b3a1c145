"""`make lab` and `make pod` against real servers: never without a token, and usable behind a proxy."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labs.cluster.ports import free_port
from labs.cluster.processes import guarded
from labs.core.paths import ROOT
from labs.tests.test_packaging import load_tool

pytest.importorskip("jupyterlab", reason="needs JupyterLab")
websocket = pytest.importorskip("websocket", reason="needs websocket-client")

PROXY = "https://abc123-8888.proxy.runpod.net"
SECONDS = 60  # until the server answers; two seconds on an idle machine
lab = load_tool("lab")


@dataclass
class Server:
    """A JupyterLab that runs, and what its start printed."""

    port: int
    output: str

    @property
    def token(self) -> str:
        found = re.search(r"\?token=(\S+)", self.output)
        assert found, self.output
        return found[1]

    def request(
        self, path: str, headers: Mapping[str, str] = {}, data: bytes | None = None
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, dict(headers))
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def cookies(self, host: str) -> str:
        """What a browser keeps after it has opened the address with the token."""
        address = f"http://127.0.0.1:{self.port}/lab?token={self.token}"
        with urllib.request.urlopen(urllib.request.Request(address, headers={"Host": host})) as response:
            return "; ".join(line.partition(";")[0] for line in response.headers.get_all("Set-Cookie"))


@contextlib.contextmanager
def started(kind: str, folder: Path, **env: str) -> Iterator[Server]:
    """labs/tools/lab.py with a home of its own, in which a careless configuration switches the token off."""
    careless = folder / ".jupyter" / "jupyter_server_config.py"
    careless.parent.mkdir(parents=True)
    careless.write_text("c.IdentityProvider.token = ''\nc.ServerApp.allow_origin = '*'\n")
    log, port = folder / "lab.log", free_port()
    environment = {"HOME": str(folder), "PORT": str(port), "JUPYTER_RUNTIME_DIR": str(folder / "run"), **env}
    with guarded("jupyter") as guard:
        process = guard.spawn(
            [sys.executable, str(ROOT / "labs/tools/lab.py"), kind], env=environment, log=log
        )
        deadline = time.monotonic() + SECONDS
        while "?token=" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Server(port, log.read_text())


def test_lab_listens_on_loopback_and_asks_for_the_token(tmp_path: Path) -> None:
    with started("lab", tmp_path) as server:
        assert f"http://127.0.0.1:{server.port}/lab/tree/weeks/week5/README.md?token=" in server.output
        assert len(server.token) >= 32
        assert server.request("/api/contents")[0] == 403
        assert server.request("/api/contents?token=wrong")[0] == 403
        assert server.request(f"/lab?token={server.token}")[0] == 200
        assert server.request(f"/lab?token={server.token}", {"Host": "lab.example.org"})[0] == 403
        _, body = server.request(f"/lab/api/settings?token={server.token}")
        found = {entry["id"]: _defaults(entry) for entry in json.loads(body)["settings"]}
        assert found["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
        assert found["@jupyterlab/notebook-extension:tracker"]["windowingMode"] == "none"


def _defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    properties = entry["schema"].get("properties", {})
    return {name: value.get("default") for name, value in properties.items()}


def test_pod_works_behind_a_proxy_that_rewrites_the_host(tmp_path: Path) -> None:
    host = "10.0.0.7:80"
    with started("pod", tmp_path, RUNPOD_POD_ID="abc123", JUPYTER_TOKEN="") as server:
        assert f"https://abc123-{server.port}.proxy.runpod.net/lab/tree/" in server.output
        assert server.request("/api/contents")[0] == 403
        assert server.request(f"/lab?token={server.token}", {"Host": host, "Origin": PROXY})[0] == 200
        code, body = server.request(f"/api/kernels?token={server.token}", {"Host": host}, b"{}")
        assert code == 201, body
        kernel, cookies = json.loads(body)["id"], server.cookies(host)
        assert run_in_kernel(server, kernel, host, PROXY, cookies) == "42\n"
        for origin, who in [(f"{PROXY}.example.org", cookies), ("https://example.org", cookies), (PROXY, "")]:
            with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
                run_in_kernel(server, kernel, host, origin, who)


def run_in_kernel(server: Server, kernel: str, host: str, origin: str, cookies: str) -> str:
    """What `print(6 * 7)` prints in the kernel, through its websocket as a proxied browser opens it."""
    connection = websocket.create_connection(
        f"ws://127.0.0.1:{server.port}/api/kernels/{kernel}/channels",
        host=host,
        origin=origin,
        cookie=cookies or None,
        timeout=SECONDS,
    )
    header = {"msg_id": "1", "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"}
    content = {"code": "print(6 * 7)", "silent": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    with contextlib.closing(connection):
        connection.send(json.dumps(message))
        while True:
            reply = json.loads(connection.recv())
            if reply["msg_type"] == "stream":
                return str(reply["content"]["text"])


def test_pod_lets_another_origin_in_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABS_ALLOW_ORIGIN", r"https://lab\.example\.org")
    pattern = next(a for a in lab.arguments("pod") if "allow_origin_pat" in a).partition("=")[2]
    assert re.fullmatch(pattern, "https://lab.example.org")
    assert re.fullmatch(pattern, PROXY)
    assert not re.match(pattern, "https://lab.example.org.evil.example")
    assert not re.match(pattern, f"{PROXY}.evil.example")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LABS_ALLOW_ORIGIN", ".*", "lets every origin in"),
        ("LABS_ALLOW_ORIGIN", "https://(", "is not a regular expression"),
        ("PORT", "http", "is not a port"),
        ("PORT", "70000", "is not a port"),
    ],
)
def test_mistakes_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as mistake:
        lab.arguments("pod")
    assert mistake.value.code == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("kind", ["lab", "pod"])
def test_an_occupied_port_is_one_line_and_nothing_starts(kind: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        found = subprocess.run(
            [sys.executable, str(ROOT / "labs/tools/lab.py"), kind],
            env={**os.environ, "PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert found.returncode == 2
    assert found.stdout == ""
    said = found.stderr.splitlines()
    assert len(said) == 1
    assert f"port {port} is taken" in said[0]
