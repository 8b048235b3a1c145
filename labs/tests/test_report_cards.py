"""Cards: escaped, readable as text, and told apart by more than a colour."""

import re

import pytest

from labs.core.record import Gate
from labs.report import cards, markup
from labs.report.card import EDGES, Status
from labs.report.cards import Card, Number
from labs.tests.report_toys import OWN, own, recorded

EVIL = "<script>alert('x')</script>"


def every_card() -> list[Card]:
    record = own().model_copy(update={"gates": [Gate(name=EVIL, passed=True, detail=EVIL)]})
    return [
        cards.environment(
            EVIL,
            hardware={"summary": EVIL, "memory_bytes": 2**30, "driver": EVIL},
            profile=EVIL,
            versions={EVIL: "1", "vllm": None},
            model=EVIL,
            weights="dummy",
            model_note=EVIL,
            tp_sizes=[1, 2],
            recorded=[recorded()],
        ),
        cards.result(EVIL, record, numbers=[Number(EVIL, EVIL, EVIL)], table=[{EVIL: EVIL}], path=EVIL),
        cards.check(EVIL, "wrong", EVIL, hint=EVIL, points=2),
        cards.failure(EVIL, EVIL, EVIL),
        cards.note(EVIL, EVIL),
        cards.scoreboard(
            EVIL,
            checks=[{"id": EVIL, "status": "wrong", "points": 1, "earned": 0}],
            predictions=[{"id": EVIL, "predicted": EVIL, "measured": EVIL, "unit": EVIL}],
            cost=EVIL,
            leftovers=[EVIL],
        ),
    ]


@pytest.mark.parametrize("card", every_card())
def test_every_card_escapes_and_has_text_and_loads_nothing(card: Card) -> None:
    bundle = card._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/html"] == card._repr_html_()
    assert "<script" not in bundle["text/html"]
    assert "&lt;script&gt;" in bundle["text/html"]
    assert not re.search(r"https?:|url\(|@import|src=", bundle["text/html"])
    assert str(card) == repr(card) == bundle["text/plain"]
    assert EVIL in card.text


def test_the_four_outcomes_differ_in_word_and_in_line() -> None:
    outcomes: tuple[Status, ...] = ("pass", "wrong", "not attempted", "error")
    found = [cards.check("W5.N3.C1", outcome, "why", points=2) for outcome in outcomes]
    assert [card.text.splitlines()[0] for card in found] == [
        "W5.N3.C1: PASS",
        "W5.N3.C1: WRONG",
        "W5.N3.C1: NOT ATTEMPTED",
        "W5.N3.C1: ERROR",
    ]
    assert len({EDGES[outcome][1] for outcome in outcomes}) == 4
    assert all(f">{o.upper()}<" in card.body for o, card in zip(outcomes, found, strict=True))


def test_check_says_points_and_hint() -> None:
    card = cards.check("W5.N3.C1", "wrong", "index 3: 0.5", hint="divide", points=2, earned=0.5)
    assert card.text == "W5.N3.C1: WRONG\n  index 3: 0.5\n  Hint: divide\n  0.5 of 2 points"


def test_result_shows_numbers_gates_source_and_path() -> None:
    numbers = [
        Number.of("TP=1", OWN[1], "tokens/s", predicted=90),
        Number.of("TP=4", [None, None], "tokens/s"),
        Number("steps", 0, "steps"),
    ]
    text = cards.result("Throughput", own(), numbers=numbers, path="runs/week5/x.json").text
    assert "TP=1: 61 tokens/s (60 to 62.5, n=3; you said 90 tokens/s)" in text
    assert "TP=4: not measured" in text
    assert "steps: 0 steps" in text
    assert "same greedy tokens  passed   0      0" in text
    assert text.endswith(f"{own().label()} · 12.5 s · kept in runs/week5/x.json")


def test_result_tells_measured_from_recorded_and_whose_weights() -> None:
    mine, theirs = (cards.result("T", record).body for record in (own(), recorded()))
    assert ">measured<" in mine
    assert ">tiny model<" in mine
    assert ">recorded<" in theirs
    assert ">dummy weights<" in theirs
    assert "time not measured" in cards.result("T", own().model_copy(update={"seconds": None})).text


def test_a_failed_gate_and_a_gate_without_a_value() -> None:
    rows = cards.gate_rows([Gate(name="equal", passed=False), Gate(name="near", passed=True, value=0.0)])
    assert rows[0] == {"gate": "equal", "outcome": "FAILED", "found": "", "passes up to": ""}
    assert rows[1]["found"] == "0"


def test_scoreboard_keeps_apart_what_was_not_said_and_not_measured() -> None:
    card = cards.scoreboard(
        "N3",
        checks=[
            {"id": "C1", "status": "pass", "points": 2, "earned": 2},
            {"id": "Q1", "status": "not attempted", "points": 1, "earned": 0},
        ],
        predictions=[
            {"id": "P1", "predicted": None, "measured": 0.8, "unit": "×"},
            {"id": "P2", "predicted": 1.6, "measured": None, "unit": "×"},
        ],
        explained=(1, 2),
        seconds=75.2,
    )
    assert "2 of 3 points · 1 of 2 explanations written · 75 s of measuring" in card.text
    assert "no prediction" in card.text
    assert "not measured" in card.text
    assert "NOT ATTEMPTED" in card.text
    assert card.text.endswith("No process of a run is left.")
    assert card.tone == "plain"
    left = cards.scoreboard("N3", leftovers=["4711 vllm serve"])
    assert "Still running: 4711 vllm serve" in left.text
    assert left.tone == "error"


def test_failure_and_drill() -> None:
    assert cards.failure("scaling", "rank 1 failed", "log").text == "FAILED scaling\nrank 1 failed\nlog"
    drill = cards.failure("TP=3", "TP=3 does not divide 8 heads", drill=True)
    assert drill.text.startswith("DRILL")
    assert "<details>" not in drill.body


def test_table_has_caption_scopes_and_blank_against_not_measured() -> None:
    rows: list[markup.Row] = [{"TP": 1, "ms": 2.5}, {"TP": 2, "ms": None}, {"TP": 4}]
    html = markup.html_table(rows, "A & B")
    assert "<caption>A &amp; B</caption>" in html
    assert html.count('scope="col"') == 2
    assert html.count('scope="row"') == 3
    assert html.count("not measured") == 1
    assert '<td class="num"></td>' in html
    assert markup.text_table(rows).splitlines() == [
        "TP            ms",
        "--  ------------",
        " 1           2.5",
        " 2  not measured",
        " 4",
    ]
    assert markup.html_table([], "x") == markup.text_table([]) == markup.folded_table([], "x") == ""
    assert "<details open>" in markup.folded_table(rows, "x")
    assert "<details>" in markup.folded_table(rows * 3, "x")
