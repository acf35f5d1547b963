"""What a simulated site says on the wire: protobuf messages of version 0.15."""

from datetime import datetime

from frequenz.api.common import components_pb2, metrics_pb2
from frequenz.api.common.metrics import electrical_pb2
from frequenz.api.microgrid import (
    battery_pb2,
    ev_charger_pb2,
    grid_pb2,
    inverter_pb2,
    meter_pb2,
    microgrid_pb2,
)
from google.protobuf.timestamp_pb2 import Timestamp

from microgrid_sync.model import (
    BatteryRelayState,
    Component,
    ComponentCategory,
    EVChargerCableState,
)
from microgrid_sync.simulator.devices import (
    Battery,
    BatteryInverter,
    Device,
    EVCharger,
    Flow,
    Line,
    SolarInverter,
)
from microgrid_sync.simulator.site import Site

STREAMING = {
    ComponentCategory.METER,
    ComponentCategory.INVERTER,
    ComponentCategory.BATTERY,
    ComponentCategory.EV_CHARGER,
}
"""The categories whose components have data."""


def component_message(component: Component) -> microgrid_pb2.Component:
    """Describe a component."""
    message = microgrid_pb2.Component(
        id=component.component_id,
        name=f"{component.category.name.replace('_', ' ').lower()} {component.component_id}",
        category=components_pb2.ComponentCategory.ValueType(component.category.value),
    )
    if component.metadata is not None and component.metadata.fuse is not None:
        fuse = component.metadata.fuse
        message.grid.CopyFrom(grid_pb2.Metadata(rated_fuse_current=round(fuse.max_current)))
    if component.type is not None:
        number = components_pb2.InverterType.ValueType(component.type.value)
        message.inverter.CopyFrom(inverter_pb2.Metadata(type=number))
    return message


def data_message(
    site: Site, component: Component, timestamp: datetime
) -> microgrid_pb2.ComponentData:
    """Say what a component measures now."""
    stamp = Timestamp()
    stamp.FromDatetime(timestamp)
    message = microgrid_pb2.ComponentData(ts=stamp, id=component.component_id)
    line = site.snapshot.line
    component_id = component.component_id
    match component.category:
        case ComponentCategory.METER:
            ac = _ac(site.snapshot.flows[component_id], line)
            state = meter_pb2.State(component_state=meter_pb2.COMPONENT_STATE_OK)
            message.meter.CopyFrom(meter_pb2.Meter(state=state, data=meter_pb2.Data(ac=ac)))
        case ComponentCategory.BATTERY:
            _fill_battery(message.battery, site.batteries[component_id])
        case ComponentCategory.INVERTER:
            _fill_inverter(message.inverter, site.devices[component_id], line)
        case ComponentCategory.EV_CHARGER:
            _fill_ev_charger(message.ev_charger, site.devices[component_id], line)
    return message


def _fill_battery(message: battery_pb2.Battery, battery: Battery) -> None:
    rating = battery.capacity / 2
    message.properties.capacity = battery.capacity
    message.state.component_state = battery_pb2.ComponentState.ValueType(battery.state.value)
    message.state.relay_state = battery_pb2.RelayState.ValueType(BatteryRelayState.CLOSED.value)
    message.data.soc.avg = battery.soc
    message.data.soc.system_inclusion_bounds.CopyFrom(
        metrics_pb2.Bounds(lower=battery.soc_lower, upper=battery.soc_upper)
    )
    message.data.temperature.avg = battery.temperature
    message.data.dc.power.value = battery.power
    message.data.dc.power.system_inclusion_bounds.CopyFrom(
        metrics_pb2.Bounds(lower=-rating, upper=rating)
    )


def _fill_inverter(message: inverter_pb2.Inverter, device: Device, line: Line) -> None:
    if isinstance(device, SolarInverter | BatteryInverter):
        number = inverter_pb2.ComponentState.ValueType(device.state.value)
        message.state.component_state = number
    message.data.ac.CopyFrom(_ac_with_bounds(device, line))


def _fill_ev_charger(message: ev_charger_pb2.EvCharger, device: Device, line: Line) -> None:
    if isinstance(device, EVCharger):
        number = ev_charger_pb2.ComponentState.ValueType(device.state.value)
        message.state.component_state = number
        locked, unplugged = EVChargerCableState.EV_LOCKED, EVChargerCableState.UNPLUGGED
        cable = locked if device.is_connected else unplugged
        message.state.cable_state = ev_charger_pb2.CableState.ValueType(cable.value)
    message.data.ac.CopyFrom(_ac_with_bounds(device, line))


def _ac_with_bounds(device: Device, line: Line) -> electrical_pb2.AC:
    ac = _ac(device.flow, line)
    lower, upper = device.active.inclusion_bounds()
    ac.power_active.system_inclusion_bounds.CopyFrom(metrics_pb2.Bounds(lower=lower, upper=upper))
    lower, upper = device.active.exclusion_bounds()
    ac.power_active.system_exclusion_bounds.CopyFrom(metrics_pb2.Bounds(lower=lower, upper=upper))
    return ac


def _ac(flow: Flow, line: Line) -> electrical_pb2.AC:
    currents = flow.current(line)
    phases = [
        electrical_pb2.AC.ACPhase(
            voltage=_metric(line.voltage[phase]),
            current=_metric(currents[phase]),
            power_active=_metric(flow.active[phase]),
            power_reactive=_metric(flow.reactive[phase]),
        )
        for phase in range(3)
    ]
    return electrical_pb2.AC(
        frequency=_metric(line.frequency),
        current=_metric(sum(currents)),
        power_active=_metric(sum(flow.active)),
        power_reactive=_metric(sum(flow.reactive)),
        phase_1=phases[0],
        phase_2=phases[1],
        phase_3=phases[2],
    )


def _metric(value: float) -> metrics_pb2.Metric:
    return metrics_pb2.Metric(value=value)
