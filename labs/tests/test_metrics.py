"""Request metrics against values worked out by hand, and against vLLM's own calculate_metrics."""

import pytest

from labs.core import metrics


def row(token_s, *, intended=0.0, sent=None, error=None, cls="", client=0, n=None, queue=0.0):
    return {
        "kind": "request", "run": "r", "request": 0, "client": client, "class": cls, "input_tokens": 4,
        "output_tokens": len(token_s) if n is None else n, "intended_s": intended,
        "sent_s": intended if sent is None else sent, "queue_s": queue, "token_s": token_s,
        "finished_s": token_s[-1] if token_s else None, "error": error,
    }  # fmt: skip


def test_latencies_count_from_the_intended_send():
    late = row([2.0, 2.5, 3.0], intended=1.0, sent=1.4)
    assert metrics.ttft(late) == pytest.approx(1.0)
    assert metrics.e2e(late) == pytest.approx(2.0)
    assert metrics.tpot(late) == pytest.approx(0.5)
    assert metrics.itl(late) == pytest.approx([0.5, 0.5])
    assert metrics.lag(late) == pytest.approx(0.4)
    assert metrics.lag(row([2.0], sent=0.5, queue=0.45)) == pytest.approx(0.05)


def test_a_chunk_of_several_tokens_has_one_gap_and_counts_in_full():
    chunked = row([1.0, 1.0, 2.0, 2.0, 2.0])
    assert metrics.itl(chunked) == [1.0]
    assert metrics.tpot(chunked) == pytest.approx(1 / 4)


def test_what_was_not_measured_is_none():
    failed, single = row([], error="refused"), row([1.0])
    assert metrics.ttft(failed) is None
    assert metrics.e2e(failed) is None
    assert metrics.tpot(failed) is None
    assert metrics.tpot(single) is None
    assert metrics.lag({"intended_s": 0.0, "sent_s": None}) is None
    assert metrics.completed([failed, single]) == [single]
    for of in (metrics.duration, metrics.output_throughput, metrics.request_throughput, metrics.goodput):
        assert of([failed]) is None
    assert metrics.latency_summary([failed])["ttft"].median is None
    assert metrics.knee([(1, 2.0, None), (2, 3.0, 1.0)]) is None


def test_a_request_cut_in_mid_stream_counts_nowhere():
    rows = [row([1.0, 2.0]), row([1.0, 9.0], error="cut after 2 of 8 tokens")]
    assert metrics.duration(rows) == 2.0
    assert metrics.output_throughput(rows) == pytest.approx(1.0)
    assert metrics.latency_summary(rows)["e2e"].n == 1


def test_throughput_and_goodput():
    rows = [row([1.0, 2.0]), row([3.0, 5.0], intended=1.0), row([4.0], intended=3.5)]
    assert metrics.duration(rows) == 5.0
    assert metrics.output_throughput(rows) == pytest.approx(1.0)
    assert metrics.request_throughput(rows) == pytest.approx(0.6)
    assert metrics.goodput(rows) == pytest.approx(0.6)
    assert metrics.goodput(rows, ttft_s=1.0) == pytest.approx(0.4)
    assert metrics.goodput(rows, ttft_s=1.0, tpot_s=0.9) == pytest.approx(
        0.2
    )  # one token has no TPOT to miss
    assert metrics.goodput(rows, e2e_s=0.1) == 0.0


def test_latency_summary_pools_gaps_and_gives_only_percentiles_that_n_carries():
    rows = [row([1.0 + i, 1.1 + i, 1.4 + i], intended=float(i)) for i in range(10)]
    found = metrics.latency_summary(rows)
    assert {name: s.n for name, s in found.items()} == {"ttft": 10, "tpot": 10, "itl": 20, "e2e": 10}
    assert found["ttft"].median == pytest.approx(1.0)
    assert found["itl"].mean == pytest.approx(0.2)
    assert found["e2e"].p90 == pytest.approx(1.4)
    assert found["e2e"].p95 is None
    assert found["itl"].p95 == pytest.approx(0.3)
    assert found["itl"].p99 is None


def test_fairness_is_over_one_by_slowdown_so_size_is_not_unfair():
    alone = {"short": 1.0, "long": 10.0}
    even = [row([2.0], cls="short"), row([20.0], cls="long")]
    assert metrics.slowdowns(even, alone) == pytest.approx([2.0, 2.0])
    assert metrics.fairness(even, alone) == pytest.approx(1.0)
    uneven = [row([10.0], cls="short"), row([10.0], cls="long")]  # equal latency, slowdowns 10 and 1
    assert metrics.fairness(uneven, alone) == pytest.approx((0.1 + 1) ** 2 / (2 * (0.01 + 1)))
    assert metrics.fairness([], alone) is None
    with pytest.raises(ValueError, match="no E2E alone for class 'other'"):
        metrics.fairness([row([1.0], cls="other")], alone)


def test_spread_by_client_is_the_greatest_median_over_the_least():
    rows = [row([1.0], client=0), row([1.0], client=0), row([3.0], client=1), row([1.5], client=2)]
    found = metrics.spread_by_client(rows)
    assert {client: s.n for client, s in found.clients.items()} == {0: 2, 1: 1, 2: 1}
    assert found.ratio == pytest.approx(3.0)
    assert metrics.spread_by_client(rows, of=metrics.tpot).ratio is None
    assert metrics.spread_by_client(rows[:2]).ratio is None


def test_the_knee_of_a_queue_is_where_theory_puts_it():
    """M/M/1 with service rate 1: throughput = load, latency = 1/(1 - load); load·(1 - load) peaks at 1/2."""
    loads = [i / 20 for i in range(1, 20)]
    found = metrics.knee([(load, load, 1 / (1 - load)) for load in reversed(loads)])
    assert found is not None
    assert (found.load, found.inside) == (0.5, True)
    assert found.power == pytest.approx(0.25)
    assert found.latency == pytest.approx(2.0)


def test_the_knee_of_a_closed_loop_is_the_saturation_point():
    """Latency 1 up to 8 clients, then throughput stands at 8 and latency grows: power peaks at 8."""
    found = metrics.knee([(c, min(c, 8), max(c / 8, 1.0)) for c in (1, 2, 4, 8, 16, 32)])
    assert found is not None
    assert (found.load, found.inside) == (8, True)


def test_a_knee_at_the_end_of_the_sweep_is_not_called_inside():
    rising = metrics.knee([(c, float(c), 1.0) for c in (1, 2, 4)])
    assert rising is not None
    assert (rising.load, rising.inside) == (4, False)
    flat = metrics.knee([(1, 5.0, 1.0), (2, 5.0, 1.0), (3, 1.0, 1.0)])
    assert flat is not None
    assert flat.load == 1  # the lowest load wins a tie


def test_definitions_agree_with_vllms_calculate_metrics():
    pytest.importorskip("vllm")
    from vllm.benchmarks.lib.endpoint_request_func import RequestFuncOutput
    from vllm.benchmarks.serve import calculate_metrics

    rows = [
        row([0.5, 0.6, 0.9], intended=0.0),
        row([0.8, 1.0, 1.0, 1.3], intended=0.2),  # two tokens in one chunk
        row([1.1], intended=1.0),
        row([], intended=1.2, error="refused"),
    ]
    outputs = [
        RequestFuncOutput(
            success=r["error"] is None,
            start_time=r["intended_s"],
            ttft=metrics.ttft(r) or 0.0,
            itl=metrics.itl(r),
            latency=metrics.e2e(r) or 0.0,
            output_tokens=r["output_tokens"],
            prompt_len=r["input_tokens"],
        )
        for r in rows
    ]
    seconds = metrics.duration(rows)
    assert seconds == 1.3
    limits = {"ttft": 550.0, "tpot": 150.0}
    theirs, lengths = calculate_metrics([], outputs, seconds, None, [90.0], limits)
    ours = metrics.latency_summary(rows)
    for name, key in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2e", "e2el")):
        for figure in ("median", "mean"):
            expected = getattr(theirs, f"{figure}_{key}_ms") / 1000
            assert getattr(ours[name], figure) == pytest.approx(expected), name
    assert lengths == [3, 4, 1, 0]
    assert metrics.output_throughput(rows) == pytest.approx(theirs.output_throughput)
    assert metrics.request_throughput(rows) == pytest.approx(theirs.request_throughput)
    assert metrics.goodput(rows, ttft_s=0.55, tpot_s=0.15) == pytest.approx(theirs.request_goodput)
