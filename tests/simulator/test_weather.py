"""Sun, clouds and air."""

import statistics
from datetime import UTC, datetime, timedelta

import pytest

from microgrid_sync.simulator.physics.randomness import Fluctuation, generator
from microgrid_sync.simulator.physics.weather import Weather, clear_sky_irradiance, sun_height

TILT = 23.44
"""Degrees: the obliquity of the ecliptic."""


def highest(day: datetime, latitude: float, longitude: float) -> float:
    minutes = (day + timedelta(minutes=minute) for minute in range(24 * 60))
    return max(sun_height(minute, latitude, longitude) for minute in minutes)


@pytest.mark.parametrize("latitude", [-60.0, -23.44, 0.0, 37.4, 52.5, 66.0])
@pytest.mark.parametrize(
    ("day", "declination"),
    [
        (datetime(2026, 6, 21, tzinfo=UTC), TILT),
        (datetime(2026, 12, 21, tzinfo=UTC), -TILT),
        (datetime(2026, 3, 20, tzinfo=UTC), 0.0),
    ],
)
def test_noon_sun_is_as_high_as_latitude_and_season_let_it(
    latitude: float, day: datetime, declination: float
) -> None:
    expected = 90.0 - abs(latitude - declination)
    assert highest(day, latitude, 10.0) == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("longitude", [-120.0, 0.0, 13.4, 150.0])
def test_sun_is_highest_at_noon_by_the_sun(longitude: float) -> None:
    day = datetime(2026, 4, 15, tzinfo=UTC)  # the equation of time is nearly zero
    minutes = [day + timedelta(minutes=minute) for minute in range(24 * 60)]
    noon = max(minutes, key=lambda minute: sun_height(minute, 40.0, longitude))
    expected = day + timedelta(hours=(12 - longitude / 15) % 24)
    assert abs((noon - expected).total_seconds()) < 180


def test_midnight_sun_and_polar_night() -> None:
    def heights(month: int) -> list[float]:
        hours = (datetime(2026, month, 21, hour, tzinfo=UTC) for hour in range(24))
        return [sun_height(hour, 75.0, 20.0) for hour in hours]

    assert min(heights(6)) > 0
    assert max(heights(12)) < 0


def test_clear_sky() -> None:
    assert clear_sky_irradiance(-1.0) == clear_sky_irradiance(0.0) == 0.0
    by_height = [clear_sky_irradiance(height) for height in range(1, 91)]
    assert by_height == sorted(by_height)
    assert 900 < by_height[-1] < 1100


def weather(cloudiness: float, seed: int = 1) -> Weather:
    return Weather(seed, latitude=40.0, longitude=0.0, cloudiness=cloudiness, temperature=10.0)


def test_clouds_take_sunlight_away_and_vary() -> None:
    noon = datetime(2026, 6, 21, 12, tzinfo=UTC)
    clear = weather(0.0).advance(noon, 60.0)
    assert clear.irradiance == pytest.approx(clear_sky_irradiance(sun_height(noon, 40.0, 0.0)))
    half = weather(0.5)
    skies = [half.advance(noon, 600.0) for _ in range(500)]
    assert all(0 < sky.irradiance < clear.irradiance for sky in skies)
    covers = [sky.cloud_cover for sky in skies]
    assert statistics.median(covers) == pytest.approx(0.5, abs=0.15)
    assert min(covers) < 0.1
    assert max(covers) > 0.9
    overcast = weather(1.0).advance(noon, 60.0)
    assert 0 < overcast.irradiance < 0.3 * clear.irradiance


def test_afternoon_is_warmer_than_the_night() -> None:
    air = weather(0.0)
    day = datetime(2026, 6, 21, tzinfo=UTC)
    by_hour = {
        hour: statistics.mean(
            air.advance(day + timedelta(days=n, hours=hour), 86400.0).temperature for n in range(60)
        )
        for hour in (3, 15)
    }
    assert by_hour[15] - by_hour[3] > 5
    assert statistics.mean(by_hour.values()) == pytest.approx(10.0, abs=2.0)


def test_one_seed_is_one_weather() -> None:
    noon = datetime(2026, 6, 21, 12, tzinfo=UTC)

    def lived(seed: int) -> list[object]:
        one = weather(0.5, seed)
        return [one.advance(noon, 10.0) for _ in range(50)]

    assert lived(7) == lived(7)
    assert lived(7) != lived(8)


@pytest.mark.parametrize("seconds", [1.0, 30.0, 3600.0])
def test_fluctuation_strays_as_far_however_often_it_is_looked_at(seconds: float) -> None:
    fluctuation = Fluctuation(generator(3, "test"), deviation=2.0, persistence=30.0)
    # Far apart, so that the values have forgotten each other.
    values = []
    for _ in range(2000):
        for _ in range(max(1, round(90 / seconds))):
            strayed = fluctuation.advance(seconds)
        values.append(strayed)
    assert statistics.pstdev(values) == pytest.approx(2.0, rel=0.1)
    assert statistics.mean(values) == pytest.approx(0.0, abs=0.2)


def test_fluctuation_does_not_move_without_time() -> None:
    fluctuation = Fluctuation(generator(3, "test"), deviation=2.0, persistence=30.0)
    before = fluctuation.value
    assert fluctuation.advance(0.0) == before
    assert abs(fluctuation.advance(1e-6) - before) < 0.01
