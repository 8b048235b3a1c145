"""Which rank is named as the first that failed."""

import signal

import pytest

from labs.cluster import failures


def error(rank: int, kind: str, message: str, when: float) -> failures.Failure:
    fault = {"kind": "error", "type": kind, "message": message, "traceback": f"Traceback … {kind}"}
    return failures.from_error(rank, fault, when)


def test_the_earliest_error_is_the_cause() -> None:
    found = [error(0, "KeyError", "'b'", 2.0), error(1, "ValueError", "a", 1.0)]
    assert failures.headline(failures.first(found), 2) == "rank 1 of 2 failed: ValueError: a"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ConnectionResetError", "[Errno 104] Connection reset by peer"),
        ("RuntimeError", "[/x/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1"),
        ("DistBackendError", "NCCL error in: ncclRemoteError: A call failed possibly due to a network error"),
        ("RuntimeError", "NCCL communicator was aborted on rank 0"),
        ("DistNetworkError", "failed to recv, got 0 bytes"),
    ],
)
def test_an_echo_never_masks_the_cause_even_if_it_came_first(kind: str, message: str) -> None:
    cause = error(1, "ValueError", "the cause", 2.0)
    assert failures.first([error(0, kind, message, 1.0), cause]) is cause


def test_an_error_that_only_mentions_a_connection_is_no_echo() -> None:
    found = [error(0, "ValueError", "connection closed must be a bool", 1.0), error(1, "KeyError", "x", 2.0)]
    assert failures.first(found).rank == 0


def test_a_validation_error_says_what_is_wrong() -> None:
    message = "1 validation error for ModelConfig\n  Value error, no model_type [type=value_error, input=1]\n"
    assert error(0, "ValidationError", message, 1.0).what == "failed: ValidationError: no model_type"
    message = "1 validation error for Load\nrepeats\n  Input should be more [type=x]\n"
    assert error(0, "ValidationError", message, 1.0).what == "failed: ValidationError: Input should be more"


def test_echoes_alone_are_named_in_order() -> None:
    found = [error(rank, "BrokenPipeError", "", 3.0 - rank) for rank in range(3)]
    assert failures.headline(failures.first(found), 3) == "rank 2 of 3 failed: BrokenPipeError"


def test_a_kill_counts_from_when_the_rank_was_last_alive() -> None:
    killed = failures.from_exit(1, -signal.SIGKILL, last_alive=1.0, seen_dead=1.2)
    assert failures.first([error(0, "IndexError", "follows from it", 1.1), killed]) is killed
    assert "SIGKILL (usual cause: the machine or the container ran out of memory)" in killed.what


def test_an_abort_counts_from_when_it_was_seen() -> None:
    aborted = failures.from_exit(1, -signal.SIGABRT, last_alive=1.0, seen_dead=1.2)
    assert failures.first([error(0, "IndexError", "the cause", 1.1), aborted]).rank == 0


def test_exit_codes_and_unnamed_signals() -> None:
    assert failures.from_exit(0, 0, 1, 1).what == "ended with exit code 0 without a result"
    assert failures.from_exit(0, 5, 1, 1, has_result=True).what.endswith("before the others had finished")
    assert failures.from_exit(0, -63, 1, 1).what == "was killed by signal 63"


def test_unfinished_ranks() -> None:
    assert failures.unfinished([1], 2, 60) == "rank 1 of 2 did not finish within 60 s"
    assert failures.unfinished([0, 2, 3], 4, 2.5) == "ranks 0, 2 and 3 of 4 did not finish within 2.5 s"
    stopped = failures.unfinished([0, 1], 2, 60, [1])
    assert stopped.endswith("did not finish within 60 s; rank 1 is stopped (SIGSTOP or a debugger)")
