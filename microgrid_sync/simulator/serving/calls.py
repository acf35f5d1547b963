"""Answers calls with a simulated site: what is the same in all generations of the API."""

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from microgrid_sync.simulator.life.running_site import RunningSite
from microgrid_sync.simulator.life.streams import Encode, End
from microgrid_sync.simulator.physics.components import STREAMING, SiteComponent
from microgrid_sync.simulator.physics.devices import Commanded, Device
from microgrid_sync.simulator.physics.inverters import Battery, Inverter, NotPossible
from microgrid_sync.simulator.physics.limits import Limits, OutOfBounds
from microgrid_sync.simulator.physics.site import Site
from microgrid_sync.simulator.trouble.fault import ASKED_FOR, Fate
from microgrid_sync.simulator.trouble.kinds import fate_of

T = TypeVar("T", bound=Message)

_LOGGER = logging.getLogger(__name__)

_Context = grpc.ServicerContext

_MOST_PEERS = 1000
"""Clients that are remembered, so that each is told of once."""


class Problem(NamedTuple):
    """Why a call fails."""

    status: grpc.StatusCode
    details: str


def parse(request: type[T], data: bytes, context: _Context) -> T:
    """Read a request; one that is none ends the call."""
    try:
        return request.FromString(data)
    except DecodeError:
        details = f"the request is no {request.DESCRIPTOR.full_name}"
        abort(context, grpc.StatusCode.INVALID_ARGUMENT, details)


class Calls:
    """Answers calls. Each call has a thread of its own."""

    def __init__(self, running_site: RunningSite, api: str) -> None:
        """Answer for a site, in a generation of the API."""
        self.running_site = running_site
        self._api = api
        self._peers: dict[str, None] = {}

    def answer(
        self,
        name: str,
        request: type[Message],
        answer: Callable[[Any, _Context], Message],
        data: bytes,
        context: _Context,
    ) -> Message:
        """Answer a call, unless a fault keeps it from being answered."""
        self.hold(name, context)
        return answer(parse(request, data, context), context)

    def hold(self, name: str, context: _Context) -> None:
        """Wait until the client has given up, if the call is never to be answered."""
        self._note_peer(context.peer())
        faults = self.running_site.active_faults().values()
        if any(fault.is_never_answered(name) for fault in faults):
            gone = threading.Event()
            # Ends the wait without a deadline: every call ends, at the latest with the server.
            if context.add_callback(gone.set):
                gone.wait()
            abort(context, grpc.StatusCode.CANCELLED, ASKED_FOR)

    def _note_peer(self, peer: str) -> None:
        """Tell the log of a client that has not been seen yet."""
        # Two calls at once may both tell: no harm, and no lock.
        if peer not in self._peers:
            _LOGGER.info("%s: connected, speaks %s", peer, self._api)
            self._peers[peer] = None
            if len(self._peers) > _MOST_PEERS:
                self._peers.pop(next(iter(self._peers)), None)

    def told(self, what: str, component_id: int, context: _Context) -> None:
        """Tell the log what a client wants of a component."""
        _LOGGER.info("%s: component %d: %s", context.peer(), component_id, what)

    def samples(self, component_id: int, encode: Encode, context: _Context) -> Iterator[bytes]:
        """Send a component's samples until the client has enough."""
        with self.running_site.stream(component_id, encode) as stream:
            if not context.add_callback(lambda: stream.end(End())):
                return
            yield from stream.messages(
                lambda end: abort(context, grpc.StatusCode[end.status], end.details)
            )

    def fate(self, component_id: int, context: _Context) -> Fate:
        """Tell what becomes of a set-point; the call ends if a fault refuses it."""
        fate = fate_of(self.running_site.active_faults(component_id))
        if fate.refused_with is not None:
            abort(context, grpc.StatusCode[fate.refused_with], ASKED_FOR)
        return fate

    def delayed(
        self, seconds: float, context: _Context, apply: Callable[[Site, float], Problem | None]
    ) -> Callable[[], Problem | None]:
        """Plan to apply a set-point later, whether or not its client still waits then.

        Returns:
            What waits until it has been applied, or the client has gone, and tells what is wrong.
        """
        done = threading.Event()
        problems: list[Problem | None] = []

        def act() -> None:
            problems.append(self.running_site.at_clock(apply))
            done.set()

        def wait() -> Problem | None:
            # Ends the wait without a deadline, as for calls that are never answered.
            if context.add_callback(done.set):
                done.wait()
            return problems[0] if problems else None

        self.running_site.later(seconds, act)
        return wait

    def switch(
        self,
        component_id: int,
        context: _Context,
        action: Callable[[Any, Site, float], None],
        kinds: Any,
        action_name: str,
    ) -> None:
        """Let a part of the site do something, if it is of the right kind."""
        self.told(action_name, component_id, context)
        component = self.component(component_id, context)
        part = self.running_site.ask(lambda site: _part(site, component_id))
        if not isinstance(part, kinds):
            refuse_category(component, context)
        self._try(component_id, context, lambda site, now: action(part, site, now))

    def _try(
        self, component_id: int, context: _Context, action: Callable[[Site, float], None]
    ) -> None:
        try:
            self.running_site.at_clock(action)
        except NotPossible as error:
            details = f"component {component_id}: {error}"
            abort(context, grpc.StatusCode.FAILED_PRECONDITION, details)

    def start_component(self, component_id: int, context: _Context) -> None:
        """Start an inverter or close a battery's relays."""
        self.switch(
            component_id,
            context,
            lambda part, site, now: part.start(now, site.set_point_lifetime),
            Inverter | Battery,
            "start",
        )

    def cold_standby_of_component(self, component_id: int, context: _Context) -> None:
        """Bring an inverter to cold standby."""
        action = Inverter.cold_standby
        self.switch(component_id, context, lambda part, *_: action(part), Inverter, "cold standby")

    def stop_component(self, component_id: int, context: _Context) -> None:
        """Stop an inverter or open a battery's relays."""
        self.switch(component_id, context, lambda part, *_: part.stop(), Inverter | Battery, "stop")

    def acknowledge_component(self, component_id: int, context: _Context) -> None:
        """Acknowledge a component's error."""
        self.told("acknowledge the error", component_id, context)
        component = self.component(component_id, context)
        if component.category not in STREAMING:
            refuse_category(component, context)
        self._try(component_id, context, lambda *_: self.running_site.acknowledge(component_id))

    # Helpers

    def component(self, component_id: int, context: _Context) -> SiteComponent:
        """Give a component; the call ends if there is none."""
        component = self.running_site.ask(lambda site: site.components.get(component_id))
        if component is None:
            abort(context, grpc.StatusCode.NOT_FOUND, f"there is no component {component_id}")
        return component

    def commanded(self, component_id: int, context: _Context) -> Commanded:
        """Give a device that takes set-points; the call ends if there is none."""
        component = self.component(component_id, context)
        device = self.running_site.ask(lambda site: site.devices.get(component_id))
        if not isinstance(device, Commanded):
            refuse_category(component, context)
        return device


def active_limits(device: Commanded) -> Limits:
    """Give the limits of active power."""
    return device.active


def reactive_limits(device: Commanded) -> Limits:
    """Give the limits of reactive power."""
    return device.reactive


def apply_set_point(
    device: Commanded, limits: Limits, power: float, now: float, lifetime: float
) -> Problem | None:
    """Let a device take a set-point for some seconds; tell why not, if it does not."""
    device.forget(now)
    problem = device.check_operational()
    if problem is not None:
        return Problem(grpc.StatusCode.FAILED_PRECONDITION, problem)
    try:
        limits.check(power)
        limits.command(device.floored(power), now + lifetime)
    except OutOfBounds as error:
        return Problem(grpc.StatusCode.OUT_OF_RANGE, str(error))
    return None


def _part(site: Site, component_id: int) -> Device | Battery | None:
    return site.devices.get(component_id) or site.batteries.get(component_id)


def refuse_category(component: SiteComponent, context: _Context) -> NoReturn:
    """End a call that a component of this category cannot answer."""
    name = component.category.name
    details = f"component {component.component_id} is of category {name}, which cannot do this"
    abort(context, grpc.StatusCode.UNIMPLEMENTED, details)


def abort(context: _Context, code: grpc.StatusCode, details: str) -> NoReturn:
    """End a call with a status."""
    _LOGGER.info("%s: answered with %s: %s", context.peer(), code.name, details)
    context.abort(code, details)
    raise AssertionError("abort() raises")
