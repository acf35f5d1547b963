"""The voltage at a charger."""

import math

import pytest

from microgrid_sync.power.voltage import is_complete, sum_of_phases

NAN = math.nan


@pytest.mark.parametrize(
    ("own", "meter", "expected"),
    [
        ((230.0, 231.0, 232.0), None, 693.0),
        ((230.0, 231.0, 232.0), (1.0, 1.0, 1.0), 693.0),
        ((0.0, NAN, 0.0), (220.0, 221.0, 222.0), 663.0),
        ((230.0, 0.0, NAN), (220.0, 221.0, 222.0), 673.0),
        ((230.0, 0.0, 0.0), None, 690.0),
        ((230.0, 0.0, 0.0), (0.0, 220.0, 0.0), 675.0),
        ((0.0, 0.0, 0.0), (0.0, NAN, math.inf), None),
        ((-230.0, 0.0, 0.0), None, None),
    ],
)
def test_sum(
    own: tuple[float, float, float],
    meter: tuple[float, float, float] | None,
    expected: float | None,
) -> None:
    assert sum_of_phases(own, meter) == (None if expected is None else pytest.approx(expected))
    assert is_complete(own) == all(phase > 200 for phase in own)
