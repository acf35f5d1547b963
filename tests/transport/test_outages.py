"""Which failures and recoveries are told."""

from microgrid_sync.transport.outages import Outages


def test_outage_of_many_streams_is_two_lines() -> None:
    outages = Outages()
    failures = [outages.failed(number, "ServiceUnavailable", 0.01 * number) for number in range(35)]
    assert [line is not None for line in failures] == [True] + [False] * 34
    recoveries = [outages.recovered(number, 60.0 + 0.01 * number) for number in range(35)]
    assert [line is not None for line in recoveries] == [True] + [False] * 34
    assert recoveries[0] == (
        "component 0 has data again after 60 s; 34 other streams are still being opened"
    )


def test_reason_that_stays_is_not_told_again_and_a_new_one_is() -> None:
    outages = Outages()
    assert outages.failed(1, "ServiceUnavailable", 0.0) == ""
    for second in range(3, 86_400, 3):
        assert outages.failed(1, "ServiceUnavailable", float(second)) is None
    assert outages.failed(1, "EntityNotFound", 86_400.0) == ""
    assert outages.failed(1, "EntityNotFound", 86_403.0) is None


def test_streams_that_flap_are_told_a_few_times_in_ten_seconds() -> None:
    outages = Outages()
    lines = 0
    for step in range(10_000):
        now = step * 0.01
        component = step % 200
        if step // 200 % 2:
            lines += outages.recovered(component, now) is not None
        else:
            lines += outages.failed(component, "ApiClientError", now) is not None
    assert 2 <= lines <= 2 * 100 / 10 + 2


def test_last_line_says_how_it_is() -> None:
    outages = Outages()
    assert outages.failed(1, "ServiceUnavailable", 0.0) is not None
    assert outages.recovered(1, 1.0) is not None
    # Too soon for another line, but it stays so.
    assert outages.failed(1, "ServiceUnavailable", 2.0) is None
    told = [outages.failed(1, "ServiceUnavailable", 5.0 + 3 * n) for n in range(3)]
    assert told == [None, None, ""]
    assert outages.recovered(1, 12.0) is not None


def test_stream_that_ends_is_forgotten() -> None:
    outages = Outages()
    outages.failed(1, "ServiceUnavailable", 0.0)
    outages.ended(1)
    assert outages.recovered(1, 5.0) is None
