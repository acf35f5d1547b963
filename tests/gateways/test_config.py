"""What a site's gateways are told to do."""

from pathlib import Path
from typing import Any

import pytest

from microgrid_sync.gateways.config import load_gateways, read_gateways
from microgrid_sync.tables import SiteError

URL = "grpc://127.0.0.1:8800"


def test_what_is_not_said_has_its_default() -> None:
    config = read_gateways({"site": {"url": URL}, "modbus": {}})
    assert config.modbus is not None
    assert (config.modbus.host, config.modbus.commands) == ("127.0.0.1", False)
    assert config.mqtt is None
    assert config.prometheus is None
    assert config.limit.where == "grid"


def test_every_gateway_is_on_loopback_and_refuses_commands_unless_told_otherwise() -> None:
    config = read_gateways({"modbus": {}, "mqtt": {}, "prometheus": {}})
    for table in (config.modbus, config.mqtt, config.prometheus):
        assert table is not None
        assert table.host == "127.0.0.1"
        assert not getattr(table, "commands", False)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"modbuss": {}}, r"\[modbuss\]: is unknown; known are \[site\], .*did you mean 'modbus'"),
        ({"modbus": 3}, r"\[modbus\]: must be a table"),
        ({"modbus": {"prot": 3}}, r"\[modbus\]: prot: is unknown here.*did you mean 'port'"),
        ({"modbus": {"port": 70000}}, r"port: must be a whole number from 0 to 65535"),
        ({"modbus": {"word_order": "middle"}}, r"word_order: 'middle' is none of big, little"),
        ({"modbus": {"watts_per_count": 0}}, r"watts_per_count: must be more than 0"),
        ({"modbus": {"chargers": [7, 7]}}, r"chargers: names something twice"),
        ({"modbus": {"unit_id": 256}}, r"unit_id: must be a whole number from 0 to 255"),
        ({"modbus": {"commands": True}}, r"safe_cap_w: is missing: the cap in W that holds"),
        ({"modbus": {"commands": "yes"}}, r"commands: must be true or false"),
        ({"modbus": {"safe_cap_w": 4200}}, r"safe_cap_w: needs 'commands = true'"),
        ({"modbus": {"commands": True, "safe_cap_w": 4.2}}, r"less than any car takes; is it in W"),
        ({"mqtt": {"prefix": "a/#"}}, r"prefix: must be a topic of up to 200 letters without"),
        ({"mqtt": {"ca_file": "ca.pem"}}, r"ca_file: needs 'tls = true'"),
        ({"mqtt": {"tls": True, "key_file": "k"}}, r"key_file: is needed with certificate_file"),
        ({"mqtt": {"password_file": "p"}}, r"user_file: is needed with password_file"),
        ({"mqtt": {"buffer": 0}}, r"buffer: must be a whole number from 1"),
        ({"mqtt": {"interval": -1}}, r"interval: must be seconds"),
        ({"site": {}}, r"\[site\]: url: is missing"),
        ({"site": {"url": "http://host"}}, r"url: .*grpc://"),
        (
            {"site": {"url": URL, "name": "a/b"}},
            r"name: must be a name of up to 200 letters without",
        ),
        ({"limit": {"where": "main"}}, r"where: must be the ID of a meter or 'grid'"),
        ({"limit": {"fuse": "Z"}}, r"fuse: 'Z' is none of gG, B, C, D, SLS, none"),
        ({"limit": {"max_current_a": 0}}, r"max_current_a: a limit must be more than 0"),
        ({"limit": {"max_current_a": 10**400}}, r"max_current_a: a limit must be a finite number"),
        ({"url": 1}, r"^url: is unknown; known are \[site\]"),
        ({"Modbus": {}}, r"did you mean 'modbus'"),
        ({"mqtt": {"host": ""}}, r"host: must be an address or a name"),
        ({"modbus": {"host": "a..b"}}, r"host: must be an address or a name"),
        ({"mqtt": {"prefix": "$SYS/x"}}, r"prefix: must be a topic .*begin with"),
        ({"mqtt": {"prefix": "a\nb"}}, r"prefix: must be a topic"),
        ({"site": {"url": URL, "name": "a" * 300}}, r"name: must be a name of up to 200 letters"),
        ({"modbus": {"commands": True, "safe_cap_w": 10**400}}, r"finite number in W"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], text: str) -> None:
    with pytest.raises(SiteError, match=text):
        read_gateways(values)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(SiteError) as error:
        read_gateways({"modbus": {"port": -1, "unit_id": "a"}, "prometheus": {"port": "x"}})
    assert len(str(error.value).splitlines()) == 3
    # One that is wrong is not missing, too.
    with pytest.raises(SiteError) as error:
        read_gateways({"modbus": {"commands": True, "safe_cap_w": 5}})
    assert "missing" not in str(error.value)


def test_file_and_its_line_are_named(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text("[modbus]\nport = \n")
    with pytest.raises(SiteError, match=r"site\.toml: .*line 2"):
        load_gateways(path)
    path.write_text("[modbus]\nport = 1.5\n")
    with pytest.raises(SiteError, match=r"site\.toml: \[modbus\]: port: must be a whole number"):
        load_gateways(path)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('[mqtt]\nuser_file = "user"\n')
    config = load_gateways(path)
    assert config.mqtt is not None
    assert config.path(config.mqtt.user_file) == str(tmp_path / "user")
    assert config.path("/etc/user") == "/etc/user"
    assert config.path(None) is None
