"""The rank launcher with real processes: results, failures, hangs, kills, interrupts, a kernel, torchrun."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.cluster.launch import launch
from labs.cluster.memory import gpu_processes
from labs.core.errors import RunFailed, UserError
from labs.core.paths import ROOT
from labs.tests.running import clean_up, new_token, read_until, start_python, wait_until, with_token

TARGETS = "labs.tests.rank_targets:"
PARENT = """
import sys
from labs.cluster.launch import launch
launch(sys.argv[1], 2, {"token": sys.argv[2]}, name="run" + sys.argv[2])
"""


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABS_RUNS", str(tmp_path))


@pytest.fixture
def token() -> Iterator[str]:
    token = new_token()
    yield token
    clean_up(token)


def fails(target: str, world_size: int = 2, **more: Any) -> RunFailed:
    with pytest.raises(RunFailed) as caught:
        launch(target, world_size, on_line=None, **more)
    return caught.value


def test_results_by_rank_lines_and_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = launch(TARGETS + "echo", 2, {"size": 8}, env={"LABS_TEST_EXTRA": "x"}, pin=True)
    assert [one["rank"] for one in results] == [0, 1]
    assert all(one["config"] == {"size": 8} and one["extra"] == "x" for one in results)
    assert results[1]["env"] == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
    }
    cores = sorted(os.sched_getaffinity(0))
    assert [one["cores"] for one in results] == ([[core] for core in cores[:2]] if cores[1:] else [cores] * 2)
    assert not any(one["torch"] for one in results)
    printed = capsys.readouterr().out.splitlines()
    expected = [f"[{rank}] {line}" for rank in (0, 1) for line in ("hello from ", "no newline at the end")]
    assert sorted(line.rstrip("01") for line in printed) == sorted(expected)
    [log] = tmp_path.glob("logs/ranks-*/rank1.log")
    assert log.read_text() == "hello from 1\nno newline at the end"


def test_much_output_and_progress_bars() -> None:
    lines: list[str] = []
    launch(TARGETS + "chatter", 1, on_line=lambda rank, line: lines.append(line))
    assert lines[:2] == ["100%", "caf\ufffd"]
    assert lines[2:] == [f"line {number}" for number in range(20_000)]


def test_a_students_file_is_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "neighbour.py").write_text("FACTOR = 10\n")
    (tmp_path / "mine.py").write_text(
        "from neighbour import FACTOR\ndef main(ctx):\n    return ctx.rank * FACTOR\n"
    )
    monkeypatch.chdir(tmp_path)
    assert launch("mine.py:main", 2) == [0, 10]


def test_from_a_thread_that_is_not_the_main_one() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(launch(TARGETS + "echo", 2, on_line=None)))
    thread.start()
    thread.join(60)
    assert [one["rank"] for one in found] == [0, 1]


def test_an_exception_names_the_first_rank_with_its_own_traceback(token: str, tmp_path: Path) -> None:
    failed = fails(TARGETS + "fail_one", name=token)
    assert str(failed) == "rank 1 of 2 failed: ValueError: shard 1 has the wrong shape"
    assert 'in fail_one\n    raise ValueError("shard 1 has the wrong shape")' in failed.details
    assert "about to fail" in failed.details
    assert "rank.py" not in failed.details.split("The end of rank 1's output")[0]  # only the target's frames
    assert "Traceback" in next(tmp_path.glob("logs/*/rank1.log")).read_text()
    assert with_token(token) == []


def test_a_user_error_in_a_rank_stays_one_line() -> None:
    with pytest.raises(UserError, match=r"^TP=3 does not divide 8 attention heads; use 1, 2, 4 or 8$"):
        launch(TARGETS + "wrong_call", 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_rank_is_named_although_another_one_complains_first(
    number: signal.Signals, token: str, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"

    def kill(rank: int, line: str) -> None:
        if line == "kill me":
            os.kill(int(pid_file.read_text()), number)

    with pytest.raises(RunFailed) as caught:
        launch(TARGETS + "lose_rank_1", 2, {"pid_file": str(pid_file)}, on_line=kill, name=token)
    assert str(caught.value).startswith(f"rank 1 of 2 was killed by {number.name}")
    assert ("out of memory" in str(caught.value)) == (number == signal.SIGKILL)
    assert "Afterwards rank 0 of 2 failed: RuntimeError" in caught.value.details
    assert with_token(token) == []


def test_leaving_without_a_result_is_a_failure(token: str) -> None:
    failed = fails(TARGETS + "leave_without_result", name=token)
    assert str(failed) == "rank 0 of 2 ended with exit code 0 without a result"
    assert with_token(token) == []


def test_a_result_must_be_json() -> None:
    failed = fails(TARGETS + "unserialisable", 1)
    assert str(failed).startswith("rank 0 of 1 failed: TypeError: the result of ")


def test_a_hang_ends_at_the_timeout_with_every_stack(token: str) -> None:
    failed = fails(TARGETS + "stuck_in_rank_1", timeout=2, name=token)
    assert str(failed) == "rank 1 of 2 did not finish within 2 s"
    rank_0, _, rank_1 = failed.details.partition("Rank 1:")
    assert "Rank 0 (has its result and waits for the others)" in rank_0
    assert "in _wait_for_a_message_that_never_comes" in rank_1
    assert with_token(token) == []


def test_a_stopped_rank_is_named(token: str) -> None:
    failed = fails(TARGETS + "stop_rank_1", timeout=3, name=token)
    assert str(failed) == "rank 1 of 2 did not finish within 3 s; rank 1 is stopped (SIGSTOP or a debugger)"
    assert "does not answer (state T)" in failed.details
    assert with_token(token) == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no.such.module:main", "no module 'no' for the target no.such.module:main"),
        (TARGETS + "nothing", "labs.tests.rank_targets has no function 'nothing'"),
        ("nothing.py:main", "no file nothing.py for the target nothing.py:main"),
        ("labs.tests.rank_targets", "write package.module:function or file.py:function"),
        ("__main__:main", "lives in the notebook"),
    ],
)
def test_a_wrong_target_is_one_line(target: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        launch(target, 1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_call_is_one_line() -> None:
    with pytest.raises(UserError, match="world_size must be a whole number of ranks, 1 or more; found 0"):
        launch(TARGETS + "echo", 0)
    with pytest.raises(UserError, match="timeout must be more than 0 seconds"):
        launch(TARGETS + "echo", 1, timeout=0)
    with pytest.raises(UserError, match="must be JSON"):
        launch(TARGETS + "echo", 1, {"a": {1}})


@pytest.mark.parametrize(
    ("number", "target"),
    [(signal.SIGKILL, "hang_with_daemon"), (signal.SIGTERM, "hang"), (signal.SIGINT, "hang_with_daemon")],
)
def test_a_signal_to_the_parent_leaves_nothing(
    number: signal.Signals, target: str, token: str, tmp_path: Path
) -> None:
    parent = start_python(PARENT, TARGETS + target, token, runs=tmp_path)
    try:
        read_until(parent, "hanging", times=2)
        assert len(with_token(token)) >= 5  # the parent, its guard, two ranks and what they started
        parent.send_signal(number)
        rest = parent.stdout.read() if number == signal.SIGINT and parent.stdout else ""
        assert wait_until(lambda: not with_token(token)), with_token(token)
        assert ("KeyboardInterrupt" in rest) == (number == signal.SIGINT)
    finally:
        clean_up(token, parent)


def test_ranks_die_with_the_parent_even_without_the_guard(token: str, tmp_path: Path) -> None:
    parent = start_python(PARENT, TARGETS + "hang", token, runs=tmp_path)
    try:
        read_until(parent, "hanging", times=2)
        os.kill(next(pid for pid in with_token(token) if b"guard.py" in _command(pid)), signal.SIGKILL)
        parent.kill()
        assert wait_until(lambda: not [pid for pid in with_token(token) if b"cluster.rank" in _command(pid)])
    finally:
        clean_up(token, parent)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_kernel_survives_an_interrupt_and_a_restart_leaves_nothing(token: str, tmp_path: Path) -> None:
    manager_module = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LABS_RUNS": str(tmp_path)}
    manager, client = manager_module.start_new_kernel(env=environment)
    code = PARENT.replace("sys.argv[1]", repr(TARGETS + "hang")).replace("sys.argv[2]", repr(token))
    try:
        client.execute(code)
        assert wait_until(lambda: _printed(client, "hanging") and len(with_token(token)) >= 5)
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=30)["content"]
        assert reply["status"] == "error"
        assert reply["ename"] == "KeyboardInterrupt"
        assert with_token(token) == []

        reply = client.execute("assert 'torch' not in sys.modules", reply=True, timeout=30)["content"]
        assert reply["status"] == "ok"

        client.execute(code)
        assert wait_until(lambda: _printed(client, "hanging") and len(with_token(token)) >= 5)
        manager.restart_kernel(now=True)
        assert wait_until(lambda: not with_token(token)), with_token(token)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _printed(client: Any, text: str) -> bool:
    message = client.get_iopub_msg(timeout=30)
    return message["msg_type"] == "stream" and text in message["content"]["text"]


def test_two_ranks_all_reduce_over_gloo() -> None:
    assert launch(TARGETS + "all_reduce", 2, timeout=120) == [3.0, 3.0]


@pytest.mark.gpu2
def test_two_ranks_all_reduce_over_nccl_and_free_their_gpus() -> None:
    assert launch(TARGETS + "all_reduce_nccl", 2, timeout=120) == [3.0, 3.0]
    assert not [one for one in gpu_processes() if one.command and "labs.cluster.rank" in one.command]


def test_a_lost_peer_does_not_mask_the_cause(token: str) -> None:
    failed = fails(TARGETS + "lost_peer", timeout=120, name=token)
    assert str(failed) == "rank 1 of 2 failed: ValueError: out of patience"
    assert with_token(token) == []


def test_torchrun_runs_the_same_rank_code(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command += ["-m", "labs.cluster.rank", TARGETS + "all_reduce", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text()) == [3.0, 3.0]


def test_a_rank_alone_needs_no_launcher(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"size": 3}')
    command = [sys.executable, "-m", "labs.cluster.rank"]
    outer = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    run = {"cwd": ROOT, "env": outer, "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run([*command, TARGETS + "echo", "--config", str(config)], **run)  # type: ignore[call-overload]
    assert '"config": {"size": 3}' in done.stdout
    done = subprocess.run([*command, TARGETS + "wrong_call"], **run)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
