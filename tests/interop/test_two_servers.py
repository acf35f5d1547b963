"""One process, one installation, a server of each family of the API: whatever else is installed."""

from importlib.metadata import distributions

import pytest

from microgrid_sync import ComponentCategory, Microgrid, MicrogridApiClient, Power
from microgrid_sync.simulator import Simulator
from tests.support.waiting import PATIENCE, eventually


def test_both_at_once() -> None:
    with (
        Simulator("demo", api=["v0.15"]) as old,
        Simulator("demo", api=["v1alpha18"]) as new,
        MicrogridApiClient(old.url) as old_client,
        MicrogridApiClient(new.url) as new_client,
    ):
        for client in (old_client, new_client):
            chargers = [
                c.component_id
                for c in client.components()
                if c.category is ComponentCategory.EV_CHARGER
            ]
            client.set_power(chargers[0], 5000.0)
        assert (old_client.api, new_client.api) == ("v0.15", "v1alpha18")
        receivers = [c.ev_charger_data(chargers[0]) for c in (old_client, new_client)]
        assert all(r.receive(PATIENCE).is_ev_connected() for r in receivers)
        for client, simulator in ((old_client, old), (new_client, new)):
            with Microgrid(client) as site:
                site.new_ev_charger_pool(priority=1).propose_power(Power.from_kilowatts(9))

                def held(simulator: Simulator = simulator) -> bool:
                    return any(
                        simulator.change(
                            lambda site: [site.charger(i).active.set_point for i in chargers]
                        )
                    )

                assert eventually(held)


def test_what_else_is_installed_is_the_published_code_of_others() -> None:
    names = {d.metadata["Name"] for d in distributions()}
    others = {"frequenz-sdk", "frequenz-client-microgrid", "macrocosim"} & names
    if not others:
        pytest.skip("nothing of others is installed here")
    for name in others:
        module = {
            "frequenz-sdk": "frequenz.sdk",
            "frequenz-client-microgrid": "frequenz.client.microgrid",
            "macrocosim": "macrocosim",
        }[name]
        # In this process, beside our own messages.
        assert __import__(module)
