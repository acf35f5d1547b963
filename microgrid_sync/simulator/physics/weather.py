"""Simulates sun, clouds and air at a site."""

import math
from datetime import UTC, datetime
from typing import NamedTuple

from microgrid_sync.simulator.physics.randomness import Fluctuation, generator

_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)

_THICKEST_CLOUDS = 0.8
"""The part of the sunlight that a closed sky takes away."""

_CLOUDS_PASS = 600.0
"""Seconds for which a cloud stays about the same."""

_AIR_STAYS = 4 * 3600.0
"""Seconds for which the air stays about the same."""

_DAILY_SWING = 5.0
"""°C by which a typical afternoon is warmer than the day's mean."""


def sun_height(time: datetime, latitude: float, longitude: float) -> float:
    """Find how high the sun stands.

    After the Astronomical Almanac's low-precision formulas, good to about 0.01° for decades around
    the year 2000; refraction is left out.

    Args:
        time: When, with a time zone.
        latitude: Degrees north.
        longitude: Degrees east.

    Returns:
        Degrees above the horizon; negative at night.
    """
    days = (time - _J2000).total_seconds() / 86400.0
    mean_longitude = 280.460 + 0.9856474 * days
    anomaly = math.radians(357.528 + 0.9856003 * days)
    ecliptic = math.radians(
        mean_longitude + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly)
    )
    tilt = math.radians(23.439 - 0.0000004 * days)
    declination = math.asin(math.sin(tilt) * math.sin(ecliptic))
    ascension = math.atan2(math.cos(tilt) * math.sin(ecliptic), math.cos(ecliptic))
    sidereal = math.radians(280.46062 + 360.98564737 * days + longitude)
    hour_angle = sidereal - ascension
    north = math.radians(latitude)
    return math.degrees(
        math.asin(
            math.sin(north) * math.sin(declination)
            + math.cos(north) * math.cos(declination) * math.cos(hour_angle)
        )
    )


def clear_sky_irradiance(height: float) -> float:
    """Give the sunlight on level ground under a clear sky, in W/m².

    The model of Haurwitz (1945), which needs nothing but the sun's height.

    Args:
        height: The sun's height in degrees.
    """
    sine = math.sin(math.radians(height))
    if sine <= 0:
        return 0.0
    return 1098.0 * sine * math.exp(-0.057 / sine)


class Sky(NamedTuple):
    """The weather at an instant."""

    irradiance: float
    """Sunlight on level ground, in W/m²."""

    temperature: float
    """Of the air, in °C."""

    cloud_cover: float
    """The part of the sky that clouds cover, 0 to 1."""


class Weather:
    """The weather of a site: the sun of its location, and clouds and air from its seed."""

    def __init__(
        self,
        seed: int,
        *,
        latitude: float,
        longitude: float,
        cloudiness: float,
        temperature: float,
    ) -> None:
        """Make weather.

        Args:
            seed: The site's seed.
            latitude: Degrees north.
            longitude: Degrees east.
            cloudiness: How cloudy it is on the average, 0 to 1.
            temperature: The mean temperature of the air in °C.
        """
        self._latitude = latitude
        self._longitude = longitude
        self._cloudiness = cloudiness
        self._temperature = temperature
        self._clouds = Fluctuation(
            generator(seed, "clouds"), deviation=1.0, persistence=_CLOUDS_PASS
        )
        self._air = Fluctuation(generator(seed, "air"), deviation=1.5, persistence=_AIR_STAYS)

    def advance(self, time: datetime, seconds: float) -> Sky:
        """Live on for some seconds until a time, and give the weather then."""
        self._clouds.advance(seconds)
        self._air.advance(seconds)
        height = sun_height(time, self._latitude, self._longitude)
        cover = self._cover()
        # The hour by the sun, so that no time zone is needed: 15 degrees east are one hour.
        utc = time.astimezone(UTC)
        hour = (utc.hour + utc.minute / 60 + self._longitude / 15) % 24
        swing = _DAILY_SWING * math.cos((hour - 15) / 24 * 2 * math.pi)
        return Sky(
            irradiance=clear_sky_irradiance(height) * (1.0 - _THICKEST_CLOUDS * cover),
            temperature=self._temperature + swing * (1.0 - 0.5 * cover) + self._air.value,
            cloud_cover=cover,
        )

    def _cover(self) -> float:
        """Turn the fluctuating value into a part of the sky whose median is the cloudiness."""
        if not 1e-6 < self._cloudiness < 1.0 - 1e-6:
            return round(self._cloudiness)
        median = math.log(self._cloudiness / (1.0 - self._cloudiness))
        return 1.0 / (1.0 + math.exp(-(median + 2.0 * self._clouds.value)))
