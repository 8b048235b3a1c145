"""Our load client against vLLM's own: the verdict by hand, then both on a real server."""

import pytest

from labs.core.errors import RunFailed
from labs.core.metrics import latency
from labs.core.paths import TINY_MODEL
from labs.serving import compare
from labs.serving.compare import Comparison, judge
from labs.serving.server import VllmServer

BASE = {
    "output_throughput": 100.0, "request_throughput": 5.0, "median_ttft_ms": 100.0, "median_tpot_ms": 8.0,
}  # fmt: skip


def verdicts(**changes):
    return {line.name: line.agrees for line in judge([BASE | changes], [BASE])}


def test_equal_results_agree():
    assert set(verdicts().values()) == {True}


@pytest.mark.parametrize(("key", "name", "inside", "outside"), [
    ("output_throughput", "output throughput", 102.9, 103.1),
    ("output_throughput", "output throughput", 97.1, 96.9),
    ("request_throughput", "request throughput", 5.14, 5.16),
    ("median_ttft_ms", "median TTFT", 104.9, 105.1),  # 5 % is more than 2 ms here
    ("median_ttft_ms", "median TTFT", 95.1, 94.9),
    ("median_tpot_ms", "median TPOT", 9.9, 10.1),  # 2 ms is more than 5 % here
])  # fmt: skip
def test_each_limit_is_where_it_is_said_to_be(key, name, inside, outside):
    assert verdicts(**{key: inside})[name]
    found = verdicts(**{key: outside})
    assert [other for other, agrees in found.items() if not agrees] == [name]


def test_one_disturbed_repeat_of_three_does_not_decide():
    disturbed = BASE | {"median_ttft_ms": 900.0}
    assert all(line.agrees for line in judge([BASE, disturbed, BASE], [BASE] * 3))
    assert not all(line.agrees for line in judge([disturbed, disturbed, BASE], [BASE] * 3))


def test_what_was_not_measured_is_a_failed_run_not_an_agreement():
    with pytest.raises(RunFailed, match="median TTFT was not measured by the labs client"):
        judge([BASE | {"median_ttft_ms": None}], [BASE])
    with pytest.raises(RunFailed, match="median TPOT was not measured by the vLLM client"):
        judge([BASE], [BASE | {"median_tpot_ms": None}])


def test_the_table_shows_both_medians_with_n_the_ratio_the_verdict_and_the_lag():
    lines = judge([BASE | {"median_ttft_ms": 150.0}] * 3, [BASE] * 3)
    found = Comparison(lines=lines, lag=latency([0.001] * 120))
    text = found.text()
    assert not found.agrees
    assert "100 tok/s (100 to 100, n=3)" in text
    row = next(line for line in text.splitlines() if line.startswith("median TTFT"))
    assert "1.500" in row
    assert "DIFFERS" in row
    assert text.splitlines()[-1] == ("lag of the labs client: p50 1.00 ms, p99 1.00 ms, max 1.00 ms (n=120)")


@pytest.mark.parametrize(
    "argv", [["--model", "no/such/folder/at-all"], ["--model", "tiny", "--repeats", "0"]]
)
def test_a_mistake_in_the_call_is_one_line_and_exit_code_2(argv, capsys):
    assert compare.main([*argv, "--url", "ftp://x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.vllm
def test_both_clients_agree_on_a_real_server(tmp_path):
    """Medians over three alternating repeats, over five more if something disturbed two of the three."""
    config = compare.server_config("tiny", "cpu", "real", 128)
    assert config.model_path == str(TINY_MODEL)
    with VllmServer(config, log=tmp_path / "server.log") as server:
        for repeats in (3, 5):
            found = compare.compare(server.url, server.model, repeats=repeats, seed=repeats)
            print(found.text())
            if found.agrees:
                break
    assert found.lag.p99 is not None
    assert found.agrees, found.text()
