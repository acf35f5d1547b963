"""Brings the simulator into other people's tests: the fixture and the marker ``microgrid``.

pytest finds this plugin by itself wherever the package is installed.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from datetime import datetime

    from microgrid_sync.simulator import Fault, Simulator, Site

_MARKER = (
    "microgrid(site='demo', *, faults=(), speed=1.0, sample_interval=None, seed=None, start=None, "
    "api=None): the site that the fixture 'microgrid' serves, how fast its clock runs, its faults, "
    "and the APIs that it speaks"
)

_ARGUMENTS = ("site", "faults", "speed", "sample_interval", "seed", "start", "api")


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def microgrid(request: pytest.FixtureRequest) -> "Iterator[Simulator]":
    """A simulator that serves on loopback while the test runs.

    On Linux its port stays its own while a test has it stopped.

    The marker ``microgrid`` chooses the site and its faults; its arguments are those of
    `microgrid_sync.simulator.Simulator`, and ``faults``, a list of
    `microgrid_sync.simulator.Fault` or of tables such as stand in a site's file. A path of a site
    that is not absolute begins at the folder of the test's file. Markers of a class or module hold
    for its tests; what a nearer one says wins.
    """
    options: dict[str, Any] = {}
    of_parameters = getattr(getattr(request.node, "callspec", None), "marks", ())
    markers = [*reversed(list(request.node.iter_markers("microgrid"))), *of_parameters]
    for marker in markers:
        if marker.name != "microgrid":
            continue
        options |= dict(zip(("site",), marker.args, strict=False)) | marker.kwargs
        if len(marker.args) > 1:
            pytest.fail("the marker microgrid takes one positional argument: the site", False)
    unknown = options.keys() - _ARGUMENTS
    if unknown:
        known = ", ".join(_ARGUMENTS)
        pytest.fail(f"the marker microgrid has no {min(unknown)!r}; it has {known}", pytrace=False)
    # Not at the top: pytest imports this module in all projects of an environment, also in those
    # that never use it.
    from microgrid_sync.simulator.serving.ports import (  # noqa: PLC0415 - see above
        reserved_port,
    )

    with reserved_port() as port:
        try:
            simulator = _simulator(request.path.parent, port, **options)
        except (TypeError, ValueError, OSError) as error:
            pytest.fail(f"the marker microgrid: {error}", pytrace=False)
        with simulator:
            yield simulator


def _simulator(
    folder: Path,
    port: int,
    *,
    site: "str | Path | Mapping[str, Any] | Site" = "demo",
    faults: "Iterable[Fault | Mapping[str, Any]]" = (),
    speed: float = 1.0,
    sample_interval: float | None = None,
    seed: int | None = None,
    start: "datetime | None" = None,
    api: "Collection[str] | None" = None,
) -> "Simulator":
    # Not at the top, as above.
    from microgrid_sync.simulator import Fault, Simulator, fault_from  # noqa: PLC0415 - see above

    if isinstance(site, str | Path) and Path(site).suffix:
        site = folder / site
    options: dict[str, Any] = {} if api is None else {"api": api}
    simulator = Simulator(
        site,
        port=port,
        speed=speed,
        sample_interval=sample_interval,
        seed=seed,
        start=start,
        **options,
    )
    for fault in faults:
        simulator.faults.add(fault if isinstance(fault, Fault) else fault_from(fault))
    return simulator
