"""Lists of sites, and the shares of them."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from microgrid_sync.service import load_sites, read_sites, share_of
from microgrid_sync.tables import SiteError


def listed(count: int, **more: Any) -> dict[str, Any]:
    """Make a list of sites."""
    sites = [{"name": f"site-{n}", "url": f"grpc://host-{n}:9090"} for n in range(count)]
    return {"site": sites, **more}


def test_what_all_have_and_what_a_site_has_of_its_own() -> None:
    values = listed(2, mqtt={"host": "broker", "interval": 5}, modbus={"commands": False})
    values["site"][0]["modbus"] = {"port": 5021}
    values["site"][1] |= {"modbus": {"port": 5022}, "mqtt": {"interval": 1}, "timeout": 3}
    first, second = read_sites(values).sites
    assert (first.name, second.name) == ("site-0", "site-1")
    assert first.gateways.modbus is not None
    assert first.gateways.modbus.port == 5021
    assert first.gateways.mqtt is not None
    assert second.gateways.mqtt is not None
    assert (first.gateways.mqtt.interval, second.gateways.mqtt.interval) == (5.0, 1.0)
    assert second.gateways.mqtt.host == "broker"
    assert second.table.timeout == 3.0


@given(st.integers(1, 60), st.integers(1, 12))
def test_every_site_is_in_exactly_one_share_and_shares_are_even(sites: int, shares: int) -> None:
    config = read_sites(listed(sites))
    parts = [config.shared(share_of(f"{n}/{shares}")).sites for n in range(1, shares + 1)]
    names = [site.name for part in parts for site in part]
    assert sorted(names) == sorted(site.name for site in config.sites)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    # One that is added moves no other.
    more = read_sites(listed(sites + 1))
    for n, part in enumerate(parts, start=1):
        then = more.shared(share_of(f"{n}/{shares}")).sites
        assert {site.name for site in part} <= {site.name for site in then}


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "", "1/3/5"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(ValueError, match="is no share"):
        share_of(text)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, r"\[\[site\]\]: is missing: a table for each site"),
        ({"site": {"url": "grpc://x:1"}}, r"\[\[site\]\]: is missing"),
        ({"site": [{"url": "grpc://x:1"}]}, "site 1: name: is missing"),
        ({"site": [{"name": "a"}]}, "site 'a'.*url"),
        ({"site": [{"name": "a/b", "url": "grpc://x:1"}]}, "must be a name"),
        (listed(2, sites=[]), r"\[sites\]: is unknown.*did you mean 'site'"),
        (listed(2, record={}), r"\[record\].*to"),
        (listed(2, record={"to": "x.csv"}), "and no file such as 'x.csv'"),
        (listed(2, record={"to": "mysql://h/d"}), "is no destination"),
        (listed(2, record={"to": "d/", "what": ["all"]}), "'all' is none of samples, totals"),
        (listed(2, modbus={"port": 5020}), "port 5020 is that of the site 'site-0', too"),
        (listed(2, mqtt={"intervall": 5}), "did you mean 'interval'"),
        ({"site": [*listed(1)["site"], *listed(1)["site"]]}, "'site-0': is there twice"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SiteError, match=words):
        read_sites(values)


def test_a_path_to_record_to_is_a_folder_wherever_it_is_run() -> None:
    for to in ("data", "data/", "~/data"):
        record = read_sites(listed(1, record={"to": to})).record
        assert record is not None
        assert record.to == f"{to.rstrip('/')}/"


def test_two_sites_of_one_url_are_a_mistake() -> None:
    values = listed(2)
    values["site"][1]["url"] = values["site"][0]["url"]
    with pytest.raises(SiteError, match="'site-1': url: is that of the site 'site-0'"):
        read_sites(values)


def test_sites_are_chosen_by_name() -> None:
    config = read_sites(listed(12))
    assert [s.name for s in config.chosen(["site-3", "site-1"]).sites] == ["site-1", "site-3"]
    with pytest.raises(ValueError, match="no site 'site3'; did you mean 'site-3'"):
        config.chosen(["site3"])
    with pytest.raises(ValueError, match=r"no site 'x'; there are site-0, .* and 2 more"):
        config.chosen(["x"])


def test_a_file_is_read_and_what_is_wrong_names_it(tmp_path: Path) -> None:
    path = tmp_path / "sites.toml"
    path.write_text('[[site]]\nname = "a"\nurl = "grpc://x:1"\n[record]\nto = "data/"\n')
    config = load_sites(path)
    assert config.record is not None
    assert config.folder == tmp_path
    path.write_text('[[site]]\nname = "a"\nurl = 5\n')
    with pytest.raises(SiteError, match=r"sites\.toml: site 'a'"):
        load_sites(path)
    path.write_text("[[site")
    with pytest.raises(SiteError, match=r"sites\.toml"):
        load_sites(path)
