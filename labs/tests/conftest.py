"""Tests that need GPUs are skipped, and say so, where there are none; signals are as at a terminal."""

import signal

import pytest

from labs.cluster.hardware import detect


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` and `gpu2` tests on a machine with fewer GPUs."""
    have = len(detect().gpus)
    for item in items:
        need = 2 if item.get_closest_marker("gpu2") else 1 if item.get_closest_marker("gpu") else 0
        if have < need:
            item.add_marker(pytest.mark.skip(reason=f"needs {need} GPU(s), found {have}"))


def pytest_configure() -> None:
    """Signals as at a terminal: a job in the background ignores Ctrl-C, and so would all that it starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
