"""Nothing survives its run: real processes, killed in every way that a user, a server or the system has."""

import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.cluster import guard as side
from labs.cluster import scratch
from labs.cluster.ports import free_port, port_is_free
from labs.cluster.processes import Guard, guarded, leftovers, sweep_leftovers
from labs.core.errors import UserError
from labs.tests.running import (
    clean_up,
    is_alive,
    new_token,
    read_until,
    start_python,
    wait_until,
    with_token,
)

# A child deaf to SIGTERM, with a child of its own and a daemon: two forks, a session of its own, and (after
# the guard had a look) an exec() with an empty environment. Prints "ready" when all three are there.
FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", sys.argv[1]])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(1.2)
        os.execve("/bin/sleep", ["sleep", sys.argv[1]], {})
    os._exit(0)
os.wait()
time.sleep(1.5)
print("ready", flush=True)
time.sleep(600)
"""
# Leaves what a killed vLLM leaves: a socket in the temporary folder, shared memory that it has mapped, and
# some that it has not but that has the run's name. Or (argv[2]) it maps a file that was there before.
LITTER = """
import mmap, os, socket, sys, tempfile, time
def share(path, flags=os.O_RDWR):
    fd = os.open(path, flags, 0o600)
    os.ftruncate(fd, 4096)
    return mmap.mmap(fd, 4096)
run = os.environ["LABS_RUN"].split("/")[-1]
names = [f"/dev/shm/labs-test-{sys.argv[1]}", f"/dev/shm/labs-{run}-{sys.argv[1]}"]
kept = [share(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) for path in names[: 1 if sys.argv[2] else 2]]
if sys.argv[2]:
    kept.append(share(sys.argv[2]))
else:
    kept.pop().close()
lock = socket.socket(socket.AF_UNIX)
lock.bind(f"{tempfile.gettempdir()}/0123456789-0123456789-0123456789-012")
print(tempfile.gettempdir(), flush=True)
time.sleep(600)
"""
OWNER = """
import sys, time
from labs.cluster.processes import guarded
with guarded("run" + sys.argv[2], grace=0.5) as guard:
    guard.spawn([sys.executable, "-c", sys.argv[1], sys.argv[2]])
    time.sleep(600)
"""


@pytest.fixture
def token() -> Iterator[str]:
    token = new_token()
    yield token
    clean_up(token)


def spawn_family(guard: Guard, token: str, log: Path) -> None:
    guard.spawn([sys.executable, "-c", FAMILY, token], log=log)
    assert wait_until(lambda: log.read_text() == "ready\n"), log.read_text()
    assert len(with_token(token)) >= 3


def test_normal_end_leaves_nothing(token: str, tmp_path: Path) -> None:
    with guarded("normal") as guard:
        spawn_family(guard, token, tmp_path / "log")
        assert len(guard.pids()) >= 2  # the child and the grandchild; the daemon hides its origin
    assert with_token(token) == []


def test_an_exception_leaves_nothing_and_comes_through(token: str) -> None:
    def fails() -> None:
        with guarded("exception") as guard:
            guard.spawn(["sleep", token])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert with_token(token) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_owner_leaves_nothing(number: signal.Signals, token: str) -> None:
    owner = start_python(OWNER, FAMILY, token)
    try:
        read_until(owner, "ready")
        assert len(with_token(token)) >= 5  # the owner, its guard, the child, the grandchild, the daemon
        owner.send_signal(number)
        assert wait_until(lambda: not with_token(token)), with_token(token)
    finally:
        clean_up(token, owner)


def test_a_forked_copy_of_the_owner_does_not_hold_the_guard_back(token: str) -> None:
    fork = "    import os\n    if copy := os.fork(): print('copy', copy)\n    time.sleep(600)"
    code = OWNER.replace("    time.sleep(600)", fork)
    owner = start_python(code, "import time; time.sleep(600)", token)
    try:
        copy = int(read_until(owner, "copy")[-1].split()[1])
        owner.kill()
        assert wait_until(lambda: with_token(token) == [copy]), with_token(token)  # it is not of the run
    finally:
        clean_up(token, owner)


def test_the_run_ends_even_if_somebody_killed_the_guard(token: str) -> None:
    with guarded(f"run{token}") as guard:
        guard.spawn(["sleep", token])
        assert wait_until(lambda: bool(_guards(token)))  # exec() may still be under way
        os.kill(_guards(token)[0], signal.SIGKILL)
    assert with_token(token) == []


def test_a_child_outlives_the_thread_that_started_it(token: str) -> None:
    children: list[subprocess.Popen[bytes]] = []
    with guarded("thread") as guard:
        thread = threading.Thread(target=lambda: children.append(guard.spawn(["sleep", token])))
        thread.start()
        thread.join()
        time.sleep(0.3)
        assert is_alive(children[0].pid)
    assert with_token(token) == []


def test_a_rewritten_title_keeps_the_mark(token: str, tmp_path: Path) -> None:
    pytest.importorskip("setproctitle")
    code = "import setproctitle, time; setproctitle.setproctitle('x' * 4000); print('ready'); time.sleep(600)"
    log = tmp_path / "log"
    with guarded("title") as guard:
        child = guard.spawn([sys.executable, "-u", "-c", code, token], log=log)
        assert wait_until(lambda: "ready" in log.read_text())
        assert side.marker(child.pid) == guard.run
    assert not is_alive(child.pid)


def test_bystanders_are_left_alone(token: str) -> None:
    bystander = subprocess.Popen(["sleep", token])
    try:
        with guarded("bystander") as guard:
            guard.spawn(["sleep", "600"])
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def litter(token: str) -> list[Path]:
    return sorted(path for path in Path("/dev/shm").iterdir() if token in path.name)


def test_what_a_process_leaves_goes_with_its_run(token: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with guarded("litter") as guard:
        guard.spawn([sys.executable, "-c", LITTER, token, ""], log=log)
        assert wait_until(lambda: log.read_text().endswith("\n"))
        folder = Path(log.read_text().strip())
        assert folder.is_dir()
        assert folder != Path(tempfile.gettempdir())
        assert len(litter(token)) == 2
    assert not folder.exists()
    assert litter(token) == []


def test_it_goes_also_when_the_owner_is_killed_with_all_its_processes(token: str) -> None:
    code = OWNER.replace("guard.spawn(", "child = guard.spawn(").replace("sys.argv[2]])", "sys.argv[2], ''])")
    code = code.replace("time.sleep(600)", "print('started', flush=True); time.sleep(600)")
    owner = start_python(code, LITTER, token)
    try:
        folder = Path([line for line in read_until(owner, "/labs-") if line.startswith("/")][-1].strip())
        time.sleep(1.5)  # the guard has had a look
        for pid in [owner.pid, *(set(with_token(token)) - set(_guards(token)))]:
            os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not folder.exists())
        assert litter(token) == []
    finally:
        clean_up(token, owner)


def test_shared_memory_of_others_stays(token: str, tmp_path: Path) -> None:
    before = Path(f"/dev/shm/before-{token}")
    before.touch(mode=0o600)
    log = tmp_path / "log"
    try:
        with guarded("others") as guard:
            guard.spawn([sys.executable, "-c", LITTER, token, str(before)], log=log)
            assert wait_until(lambda: log.read_text().endswith("\n"))
            path = Path(f"/dev/shm/labs-test-{token}")
            with path.open("r+b") as file:
                used = mmap.mmap(file.fileno(), 0)  # a process that is not of the run has it too
        assert litter(token) == [before, path]
        used.close()
    finally:
        for left in litter(token):
            left.unlink()


def test_a_long_temporary_folder_leaves_room_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/" + "x" * 80)
    folder = Path(scratch.new_folder())
    assert folder.parent == Path("/tmp")
    folder.rmdir()


def test_kill_all_and_use_again(token: str) -> None:
    with guarded("twice") as guard:
        first = guard.spawn(["sleep", token])
        guard.kill_all()
        assert first.returncode == -signal.SIGTERM
        second = guard.spawn(["sleep", token])
        assert guard.pids() == [second.pid]
    assert with_token(token) == []


def test_a_run_inside_a_run_ends_with_the_outer_one(token: str) -> None:
    with guarded("outer") as guard:
        guard.spawn([sys.executable, "-c", OWNER, "import time; time.sleep(600)", token])
        assert wait_until(lambda: len(with_token(token)) >= 3)
        inner = {side.marker(pid) for pid in with_token(token)}
        assert any(mark.startswith(guard.run + "/run") for mark in inner)
    assert wait_until(lambda: not with_token(token))


def test_environment_and_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABS_TEST_REMOVED", "1")
    code = "import os, sys; get = os.environ.get\n"
    code += "print(get('LABS_TEST_REMOVED'), get('LABS_TEST_ADDED')); sys.exit(3)"
    log = tmp_path / "new folder" / "log"
    with guarded("environment") as guard:
        child = guard.spawn(
            [sys.executable, "-c", code], env={"LABS_TEST_REMOVED": None, "LABS_TEST_ADDED": "2"}, log=log
        )
        assert child.wait(20) == 3
    assert log.read_text() == "None 2\n"


def test_a_missing_program_is_one_line() -> None:
    with guarded("missing") as guard, pytest.raises(UserError, match="cannot start no-such-program"):
        guard.spawn(["no-such-program"])


def test_elsewhere_than_linux_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match=r"Linux only; this is darwin; use the dev container"):
        Guard("mac")


def test_leftovers_are_found_and_swept(token: str) -> None:
    gone = subprocess.Popen(["true"])
    start = side.stat(gone.pid)
    gone.wait()
    assert start is not None
    run = f"old-{gone.pid}-{start.start}-0"
    left = subprocess.Popen(["sleep", token], env={**os.environ, side.MARKER: run})
    try:
        assert wait_until(lambda: left.pid in [one.pid for one in leftovers()]), leftovers()
        assert f"sleep {token}" in [one.command for one in leftovers() if one.run == run]
        assert left.pid in [one.pid for one in sweep_leftovers()]
        assert left.pid not in [one.pid for one in leftovers()]
    finally:
        left.kill()
        left.wait()


def test_a_run_that_lives_is_no_leftover() -> None:
    with guarded("alive") as guard:
        child = guard.spawn(["sleep", "600"])
        assert child.pid not in [one.pid for one in leftovers()]


def test_ports() -> None:
    port = free_port()
    assert port_is_free(port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert not port_is_free(port)
    with socket.socket() as server:
        server.bind(("0.0.0.0", port))
        server.listen()
        assert not port_is_free(port)
    with pytest.raises(UserError, match="99999 is not a port"):
        port_is_free(99999)


def _guards(token: str) -> list[int]:
    return [pid for pid in with_token(token) if b"guard.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
