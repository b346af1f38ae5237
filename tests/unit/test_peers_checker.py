import pytest
from benchmarks.peers.checker import Record, Verdict, efficiency, judge, parse, percentiles

RIGHT = Verdict(overlaps=0, doubles=0, missing=0, inversions=0)


def test_a_run_in_order_with_nothing_at_once_is_right() -> None:
    records = [Record(1, "a", 0, 10), Record(3, "a", 10, 20), Record(2, "b", 5, 15)]
    assert judge(records, range(1, 4)) == RIGHT


@pytest.mark.parametrize(
    ("records", "verdict"),
    [
        pytest.param([(1, "a", 0, 10), (2, "a", 9, 20)], Verdict(1, 0, 0, 0), id="two at once"),
        pytest.param([(1, "a", 0, 10), (2, "b", 0, 10)], RIGHT, id="two at once of two resources"),
        pytest.param(
            [(1, "a", 0, 30), (2, "a", 5, 6), (3, "a", 7, 8)], Verdict(2, 0, 0, 0), id="two within a long one"
        ),
        pytest.param([(1, "a", 0, 10), (1, "a", 10, 20)], Verdict(0, 1, 0, 0), id="one twice"),
        pytest.param([(1, "a", 0, 10), (1, "b", 0, 10)], Verdict(0, 1, 0, 0), id="one twice, as of another resource"),
        pytest.param([(1, "a", 0, 10)], RIGHT, id="one"),
        pytest.param([], Verdict(0, 0, 1, 0), id="one never"),
        pytest.param([(2, "a", 0, 1), (1, "a", 1, 2)], Verdict(0, 0, 0, 1), id="two out of order"),
        pytest.param(
            [(3, "a", 0, 1), (1, "a", 1, 2), (2, "a", 2, 3)], Verdict(0, 0, 0, 2), id="two behind a later one"
        ),
        pytest.param([(2, "a", 0, 1), (1, "b", 1, 2)], RIGHT, id="out of order of two resources"),
    ],
)
def test_what_is_wrong_is_counted(records: list[tuple[int, str, int, int]], verdict: Verdict) -> None:
    units = {unit for unit, *_ in records} or {1}
    assert judge((Record(*one) for one in reversed(records)), units) == verdict


def test_records_are_read_as_they_were_written() -> None:
    assert parse("7 r1 100 250\n8 r2 300 301\n") == [Record(7, "r1", 100, 250), Record(8, "r2", 300, 301)]


def test_efficiency_is_the_share_of_the_time_in_which_handlers_ran() -> None:
    second = 1_000_000_000
    records = [Record(1, "a", 0, second), Record(2, "b", 0, second)]
    assert efficiency(records, seconds=1.0, slots=2) == pytest.approx(1.0)
    assert efficiency(records, seconds=2.0, slots=2) == pytest.approx(0.5)


def test_percentiles() -> None:
    assert percentiles(range(101)) == {"p50": 50, "p90": 90, "p99": 99, "largest": 100}
