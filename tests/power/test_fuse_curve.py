"""Tests what fuses and breakers bear."""

import math

import pytest

from microgrid_sync import Current, FuseCurve

CURVES = [
    (FuseCurve.gG(25), 0.0, 1.5625, 0.75),
    (FuseCurve.gG(35), 24.0, 1.5625, 0.93),
    (FuseCurve.gG(50), 35.0, 1.5625, 0.97),
    (FuseCurve.gG(63), 36.0, 1.5625, 0.97),
    (FuseCurve.gG(80), 36.0, 1.5625, 0.97),
    (FuseCurve.gG(100), 49.0, 1.5625, 0.97),
    (FuseCurve.mcb("B", 32), 4.6, 1.2769, 0.63),
    (FuseCurve.sls(35), 0.0, 1.1025, 0.55),
]


@pytest.mark.parametrize(("curve", "constant", "bound", "steady"), CURVES)
def test_curve_has_the_constants_of_its_standard(
    curve: FuseCurve, constant: float, bound: float, steady: float
) -> None:
    assert curve.bound == pytest.approx(bound)
    if curve.name.startswith("gG") and curve.rating.as_amperes() == 80:
        # The next smaller row's time constant is the safe side.
        assert curve.time_constant == FuseCurve.gG(63).time_constant
    else:
        assert curve.time_constant == pytest.approx(constant, abs=0.6)
    rating = curve.rating.as_amperes()
    share = 0.97
    for _ in range(300):
        share = min(0.97, curve.forgiven(share**2, 15.0) / rating)
    assert share == pytest.approx(steady, abs=0.005)


def test_state_of_a_steady_load_is_its_square_and_it_takes_time_to_get_there() -> None:
    curve = FuseCurve.gG(63)
    state = 0.0
    for _ in range(600):
        state = curve.state_after(state, 63.0, 1.0)
    assert state == pytest.approx(1.0, abs=1e-6)
    one_constant = curve.state_after(0.0, 63.0, curve.time_constant)
    assert one_constant == pytest.approx(1 - math.exp(-1))
    # Feeding in heats as well.
    assert curve.state_after(0.0, -63.0, 30.0) == curve.state_after(0.0, 63.0, 30.0)


def test_the_gate_of_the_standard_is_reached_after_ten_seconds() -> None:
    curve = FuseCurve.gG(63)
    assert curve.state_after(0.0, 160.0, 10.0) == pytest.approx(curve.bound)


@pytest.mark.parametrize(
    "curve", [FuseCurve.gG(35), FuseCurve.gG(63), FuseCurve.mcb("C", 16), FuseCurve.sls(50)]
)
@pytest.mark.parametrize("obey_time", [2.0, 5.0, 15.0])
def test_largest_step_from_what_is_forgiven_is_borne_until_it_is_answered(
    curve: FuseCurve, obey_time: float
) -> None:
    for state in (0.0, 0.3, 0.8, 1.0, min(1.2, curve.bound)):
        current = curve.forgiven(state, obey_time)
        after = curve.state_after(state, current + curve.largest_step.as_amperes(), obey_time + 6.0)
        # What is never below zero may be more than would be borne.
        assert after <= curve.bound + 1e-9 or current == 0


def test_smaller_steps_leave_more() -> None:
    careful, bold = (
        FuseCurve.mcb("B", 32),
        FuseCurve.mcb("B", 32, largest_step=Current.from_amperes(5.0)),
    )
    assert bold.forgiven(0.5, 15.0) - careful.forgiven(0.5, 15.0) == pytest.approx(11.0)


def test_wrong_arguments_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="'B', 'C' or 'D', not 'X'"):
        FuseCurve.mcb("X", 16)
    for wrong in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite and positive"):
            FuseCurve.gG(wrong)
        with pytest.raises(ValueError, match="largest_step must be finite and positive"):
            FuseCurve.sls(35, largest_step=Current.from_amperes(wrong))
    with pytest.raises(TypeError, match="number of amperes, not '63'"):
        FuseCurve.gG("63")  # type: ignore[arg-type] # what a beginner writes
    with pytest.raises(TypeError, match="largest_step must be a Current"):
        FuseCurve.gG(63, largest_step=10)  # type: ignore[arg-type] # likewise
