"""The plugin, used by test suites of somebody else's, each in a pytest of its own."""

import pytest

SITE = """
    connections = [[1, 2], [2, 7]]
    [[component]]
    id = 1
    category = "grid"
    [[component]]
    id = 2
    category = "meter"
    [[component]]
    id = 7
    category = "ev_charger"
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makefile(".toml", mine=SITE)
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider\n")
    return pytester


def outcomes(suite: pytest.Pytester, source: str) -> tuple[dict[str, int], str]:
    suite.makepyfile(source)
    result = suite.runpytest_subprocess("-q")
    return result.parseoutcomes(), result.stdout.str()


def test_fixture_serves_the_demo_unless_told_otherwise(suite: pytest.Pytester) -> None:
    found, text = outcomes(
        suite,
        """
        from microgrid_sync import MicrogridApiClient

        def test_it(microgrid):
            with MicrogridApiClient(microgrid.url) as client:
                assert len(list(client.components())) == 9
                assert client.meter_data(2).receive(20).active_power
        """,
    )
    assert found == {"passed": 1}, text


def test_marker_chooses_site_clock_and_faults(suite: pytest.Pytester) -> None:
    found, text = outcomes(
        suite,
        """
        import pytest
        from microgrid_sync import InternalError, MicrogridApiClient
        from microgrid_sync.simulator import Fault

        pytestmark = pytest.mark.microgrid(site="mine.toml", speed=0)

        def test_of_the_module(microgrid):
            begin = microgrid.time
            microgrid.step(60)
            assert (microgrid.time - begin).total_seconds() == 60
            assert microgrid.change(lambda site: sorted(site.components)) == [1, 2, 7]

        @pytest.mark.microgrid(faults=[Fault(kind="refused"), {"kind": "silent", "at": "00:01:00"}])
        def test_what_is_nearer_is_added(microgrid):
            assert len(microgrid.faults.planned()) == 2
            with MicrogridApiClient(microgrid.url, call_retry=None) as client:
                with pytest.raises(InternalError):
                    client.set_power(7, 5000.0)

        @pytest.mark.microgrid("depot", seed=5)
        class TestOfAClass:
            @pytest.mark.parametrize(
                "seed", [pytest.param(6, marks=pytest.mark.microgrid("demo", seed=6))]
            )
            @pytest.mark.microgrid("every_category", seed=4)
            def test_that_of_a_parameter_is_the_nearest(self, microgrid, seed):
                assert microgrid.change(lambda site: (site.name, site.seed)) == ("demo", seed)

            @pytest.mark.microgrid(sample_interval=2.0)
            def test_nearest_wins(self, microgrid):
                assert microgrid.change(lambda site: (site.name, site.seed)) == ("depot", 5)
                assert microgrid.change(lambda site: site.components[2].sample_interval) == 2.0
                microgrid.step(1)
        """,
    )
    assert found == {"passed": 4}, text


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ("site='villa'", "shipped: demo, depot, every_category"),
        ("site='villa.toml'", "villa.toml"),
        ("'demo', 'depot'", "one positional argument"),
        ("flavour=1", "has no 'flavour'; it has site, faults"),
        ("faults=[{'kind': 'sad'}]", "'sad' is none of"),
        ("faults=[{'kind': 'silent', 'components': [99]}]", "there is no component 99"),
        ("speed=-1", "speed must be"),
    ],
)
def test_marker_that_makes_no_sense_is_an_error_without_a_traceback(
    suite: pytest.Pytester, marker: str, words: str
) -> None:
    found, text = outcomes(
        suite,
        f"""
        import pytest

        @pytest.mark.microgrid({marker})
        def test_it(microgrid):
            pass
        """,
    )
    assert found == {"errors": 1}, text
    assert f"the marker microgrid: {words}" in text or words in text
    assert "Traceback" not in text


def test_marker_is_listed(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.microgrid(site='demo', *, faults=()*"])


def test_plugin_does_not_load_the_simulator_for_those_who_do_not_use_it(
    suite: pytest.Pytester,
) -> None:
    found, text = outcomes(
        suite,
        """
        import sys

        def test_it():
            assert "microgrid_sync.pytest_plugin" in sys.modules
            assert "microgrid_sync.simulator" not in sys.modules
        """,
    )
    assert found == {"passed": 1}, text
