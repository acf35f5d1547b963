"""Spreads streams over connections: a server may allow only so many on one of them.

HTTP/2 lets a server limit the streams of a connection, and says nothing to a call that waits for a
place. So a stream that has not heard anything for a while, beside others on the same connection
that have, is opened on another connection. Commands have a connection of their own in any case.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from microgrid_sync.transport.channel import site_of

_PATIENCE = 3.0
"""Seconds for which a stream that hears nothing is left where it is."""

_JOIN_TIMEOUT = 1.0

_logger = logging.getLogger(__name__)


class Movable(Protocol):
    """A stream, as this module knows it."""

    component_id: int

    def move(self, place: "Place") -> None:
        """Cancel the call that is open in a place, so that it is opened in another one."""


class _Channel:
    """One connection, and the streams on it. Its owner's lock protects it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.open: Callable[[str], Any] = functools.cache(
            lambda path: channel.unary_stream(path, None, None)
        )
        self.places: set[Place] = set()
        self.capacity: int | None = None
        """How many streams it carries; ``None`` as long as no limit has been met."""

    def has_room(self, proven: int) -> bool:
        """Tell whether one more stream may get a place.

        Args:
            proven: So many have been heard at once on one connection; the limit is not less.
        """
        return self.capacity is None or len(self.places) < max(self.capacity, proven)

    def answered(self) -> int:
        """Count the streams that have been heard."""
        return sum(place.has_answered for place in self.places)


class Place:
    """One call of a stream on one connection. The stream's thread uses it."""

    def __init__(self, owner: "StreamPlaces", channel: _Channel, stream: Movable) -> None:
        """Take a place; see `StreamPlaces.take`."""
        self._owner = owner
        self.channel = channel
        self.stream = stream
        self.has_answered = False
        self.opened_at = time.monotonic()
        self.is_given_up = False
        """Whether the stream is to be opened elsewhere."""

    def open(self, path: str) -> Any:
        """Give the multi-callable of a method."""
        return self.channel.open(path)

    def answered(self) -> None:
        """Note that the first message has come."""
        self.has_answered = True
        self._owner.forget_doubts(self)

    def leave(self) -> None:
        """Free the place."""
        self._owner.leave(self)


class StreamPlaces:
    """The connections for streams, and who has which place. Any thread may use it."""

    def __init__(self, open_channel: Callable[[], grpc.Channel], server_url: str) -> None:
        """Open one connection.

        Args:
            open_channel: Makes one more channel to the server.
            server_url: The server's URL, for the log.
        """
        self._open_channel = open_channel
        self._server_url = server_url
        # Protects all below, and what is in the channels. Cancelling is done without it.
        self._changed = threading.Condition(threading.Lock())
        self._channels = [_Channel(open_channel())]
        self._proven = 0
        self._moved: set[int] = set()
        self._given_up: set[int] = set()
        self._watcher: threading.Thread | None = None
        self._closed = False

    def take(self, stream: Movable) -> Place:
        """Give a stream a place on a connection with room; open a connection if there is none."""
        with self._changed:
            channel = next((c for c in self._channels if c.has_room(self._proven)), None)
            if channel is None:
                channel = _Channel(self._open_channel())
                channel.capacity = self._known_limit()
                self._channels.append(channel)
            place = Place(self, channel, stream)
            channel.places.add(place)
            if (
                self._watcher is None
                and not self._closed
                and stream.component_id not in self._given_up
            ):
                self._start_watching()
            self._changed.notify_all()
            return place

    def _known_limit(self) -> int | None:
        """Give the server's limit, if two connections have met the same. The lock is held."""
        met = [c.capacity for c in self._channels if c.capacity is not None]
        return met[-1] if len(met) > 1 and met[-1] == met[-2] else None

    def leave(self, place: Place) -> None:
        """Free a place."""
        with self._changed:
            place.channel.places.discard(place)

    def forget_doubts(self, place: Place) -> None:
        """Note that a stream has been heard: when it is silent again, it is treated afresh."""
        with self._changed:
            answered = place.channel.answered()
            self._proven = max(self._proven, answered)
            self._moved.discard(place.stream.component_id)
            self._given_up.discard(place.stream.component_id)
            if answered == 1:
                self._wait_anew(place.channel)

    def _wait_anew(self, channel: _Channel) -> None:
        """Give the others their time from now on: the connection was slow. The lock is held."""
        now = time.monotonic()
        for place in channel.places:
            if not place.has_answered:
                place.opened_at = now
                self._given_up.discard(place.stream.component_id)
        if self._watcher is None and not self._closed and self._waiting():
            self._start_watching()
        self._changed.notify_all()

    def close(self) -> None:
        """End the watching, and close all connections."""
        with self._changed:
            self._closed = True
            channels, watcher = list(self._channels), self._watcher
            self._changed.notify_all()
        for channel in channels:
            channel.channel.close()
        if watcher is not None:
            watcher.join(_JOIN_TIMEOUT)

    def _start_watching(self) -> None:
        watcher = threading.Thread(
            target=self._watch,
            name=f"microgrid-stream-places {site_of(self._server_url)}",
            daemon=True,
        )
        try:
            watcher.start()
        except RuntimeError:
            # No thread to be had: streams stay where they are.
            return
        self._watcher = watcher

    def _watch(self) -> None:
        """Move streams that wait in vain, as long as there are some that have not been heard."""
        while True:
            with self._changed:
                waiting = self._waiting()
                if self._closed or not waiting:
                    self._watcher = None
                    return
                pause = min(p.opened_at for p in waiting) + _PATIENCE - time.monotonic()
                if pause > 0:
                    self._changed.wait(pause)
                    continue
                overdue = [p for p in waiting if time.monotonic() - p.opened_at >= _PATIENCE]
                moving = [place for place in overdue if self._may_move(place)]
                stay = [place.stream.component_id for place in overdue if place not in moving]
                # Where nothing has come of a whole connection, a move would not help: that is no
                # news, or told already.
                lost = [component_id for component_id in stay if component_id in self._moved]
                self._given_up.update(stay)
                self._moved.update(place.stream.component_id for place in moving)
                for place in moving:
                    place.is_given_up = True
                    place.channel.places.discard(place)
            if lost:
                self._tell(sorted(lost))
            for place in moving:
                place.stream.move(place)

    def _waiting(self) -> list[Place]:
        """Give the places of streams that may still be moved or told about. The lock is held."""
        return [
            place
            for channel in self._channels
            for place in channel.places
            if not place.has_answered and place.stream.component_id not in self._given_up
        ]

    def _may_move(self, place: Place) -> bool:
        """Tell whether another connection may help; learn the limit. The lock is held."""
        answered = place.channel.answered()
        if not answered:
            return False
        place.channel.capacity = answered
        return True

    def _tell(self, components: list[int]) -> None:
        listed = ", ".join(str(component_id) for component_id in components[:20])
        _logger.warning(
            "%s: nothing has come of components %s%s for %.0f s: they are silent, or the server "
            "has no place for more streams",
            self._server_url,
            listed,
            ", ..." if len(components) > 20 else "",
            _PATIENCE,
        )
