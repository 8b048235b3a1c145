"""The numbers of the concurrency notebook on rows whose answers are known by hand."""

import pytest

from labs.analysis.week5 import concurrent_clients as clients
from labs.analysis.week5 import concurrent_requests as numbers
from labs.core import metrics
from labs.tests import concurrent_toys as toys


def test_a_point_has_throughput_latency_littles_product_and_the_clients_lateness() -> None:
    one, two, *_ = numbers.sweep(toys.own(), "closed")
    assert one["requests_per_s"] == pytest.approx(5)  # 0.1 s + 10 x 0.01 s a request
    assert one["tokens_per_s"] == pytest.approx(55)
    assert one["ttft_ms"].median == pytest.approx(100)
    assert one["tpot_ms"].median == pytest.approx(10)
    assert one["little"] == pytest.approx(1)
    assert two["little"] == pytest.approx(2)
    assert (one["late_max_ms"], one["late_n"]) == (4, 150)
    assert one["engine_queue_ms"] == 1


def test_an_open_loop_reports_how_late_it_sent() -> None:
    point = numbers.sweep(toys.own(), "open")[0]
    assert point["late_max_ms"] == pytest.approx(4)
    assert point["late_p99_ms"] == pytest.approx(4)
    assert point["late_n"] == 100


def test_the_knee_is_where_power_is_greatest() -> None:
    knee = numbers.knee(toys.own())
    assert knee is not None
    assert knee.load == 4  # 4/0.24/0.24 = 69; 8/0.73/0.73 = 15; 2/0.21/0.21 = 45
    assert knee.inside
    assert numbers.knee(toys.without_mode(toys.own(), "closed")) is None


def test_only_percentiles_that_some_run_can_carry_are_offered() -> None:
    own = toys.own()
    assert numbers.carried([own], ["closed"]) == [50, 90, 95, 99]  # 120 requests at 8 clients
    assert numbers.carried([toys.record(toys.closed(1, 0.1, 0.01))], ["closed"]) == [50, 90, 95]
    assert numbers.carried([toys.record([])], ["closed"]) == []


def test_goodput_counts_each_request_and_the_clock_may_start_at_the_send() -> None:
    last = numbers.open_loop(toys.own(), 200, 20)[-1]
    # TTFT is 0.1 s + i x 0.02 s: requests 0 to 5 meet 0.2 s
    assert last["good_share"] == pytest.approx(0.06)
    assert last["goodput"] == pytest.approx(last["served"] * 0.06)
    sent = numbers.open_loop(toys.own(), 200, 20, clock="actual")[-1]
    assert sent["ttft_p50_ms"] == pytest.approx(last["ttft_p50_ms"] - 4)
    assert numbers.open_loop(toys.own(), 200, 5)[0]["goodput"] == 0


def test_fairness_of_a_burst_and_two_polite_clients() -> None:
    found = clients.fairness(toys.own())
    assert found is not None
    # alone 0.2 s; the burst's E2E 0.2, 0.4, ... 1.2 s: slowdowns 1 to 6, median 3.5; the others 1.3 s: 6.5
    assert found["clients"][0].median == pytest.approx(3.5)
    assert found["polite_over_burst"] == pytest.approx(6.5 / 3.5)
    assert found["spread"] == pytest.approx(6.5 / 3.5)
    assert found["burst_share"] == pytest.approx(6 / 8)
    shares = [1 / k for k in (1, 2, 3, 4, 5, 6, 6.5, 6.5)]
    assert found["jain_requests"] == pytest.approx(sum(shares) ** 2 / (8 * sum(x * x for x in shares)))
    assert found["n"] == 8


def test_without_a_request_alone_there_is_no_slowdown() -> None:
    alone = toys.without_mode(toys.own(), "alone")
    assert clients.fairness(alone) is None
    assert clients.by_client(alone) == {}
    assert clients.by_client(alone, "TTFT")[1] == pytest.approx([1200])


def test_the_timeline_is_in_order_of_arrival() -> None:
    rows = clients.timeline(toys.own())
    assert [row["due_s"] for row in rows] == sorted(row["due_s"] for row in rows)
    assert rows[-1] == {"client": 2, "request": 7, "due_s": 0.2, "first_s": 1.4, "last_s": 1.5}


def test_batch_rates() -> None:
    rates = numbers.batch_rates(toys.own())
    assert rates["offline"].median == pytest.approx(550)
    assert rates["server, at once"].median == pytest.approx(110 / 0.21)
    assert rates["server, closed loop"].median == max(
        p["tokens_per_s"] for p in numbers.sweep(toys.own(), "closed")
    )
    assert numbers.batch_rates(toys.record([]))["offline"].n == 0


def test_a_kept_row_is_rounded_and_only_the_closed_loop_keeps_every_token() -> None:
    row = {**toys.request("x", 0, 0.12345678, 0.1, 0.01), "error": None}
    whole, ends = numbers.compact(row, every_token=True), numbers.compact(row, every_token=False)
    assert len(whole["token_s"]) == toys.TOKENS
    assert ends["token_s"] == [whole["token_s"][0], whole["token_s"][-1]]
    assert whole["intended_s"] == 0.123457
    assert metrics.tpot(ends) == pytest.approx(metrics.tpot(whole))
    assert (metrics.itl(ends), len(metrics.itl(whole))) == ([], toys.TOKENS - 1)
    assert numbers.compact({**row, "token_s": [0.5]}, every_token=False)["token_s"] == [0.5]


def test_of_a_long_closed_run_evenly_spread_requests_keep_every_token() -> None:
    rows = [{**toys.request("x", i, 0.0, 0.1, 0.01), "error": None} for i in range(130)]
    whole = [i for i, row in enumerate(numbers.kept(rows, "closed")) if len(row["token_s"]) == toys.TOKENS]
    assert whole == list(range(0, 130, 3))
    assert all(len(row["token_s"]) == 2 for row in numbers.kept(rows, "open"))


def test_what_failed_or_was_not_measured_is_none() -> None:
    broken = toys.failing(toys.own(), "concurrency=2")
    point = numbers.sweep(broken, "closed")[1]
    assert point["tokens_per_s"] is None
    assert point["little"] is None
    assert numbers.sweep(toys.record([]), "open") == []
    assert numbers.open_loop(toys.failing(toys.own(), "rate=1"), 200, 20)[1]["goodput"] is None


def test_the_cards_table_gives_nothing_away_and_the_commands_shows_both_sweeps() -> None:
    own = toys.own()
    assert {row["load"] for row in numbers.runs(own)} >= {"alone", "concurrency=8", "rate=1.5", "clients"}
    told = " ".join(key for row in numbers.runs(own) for key in row)
    assert not any(word in told for word in ("tok/s", "TTFT", "TPOT", "seconds", "requests/s"))
    assert len(numbers.summary(own)) == 7
    assert numbers.summary(own)[0]["TTFT ms"] == pytest.approx(100)
