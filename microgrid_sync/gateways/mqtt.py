"""A site for MQTT: each value on a topic, and commands."""

import collections
import json
import logging
import math
import secrets
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Self

try:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
except ImportError as error:
    raise ImportError("the gateway needs paho-mqtt: pip install 'microgrid_sync[mqtt]'") from error

from microgrid_sync.gateways.commands import CommandError, Commands, CommandSource
from microgrid_sync.gateways.home_assistant import Entities, cap_entities, discovery
from microgrid_sync.gateways.listening import place_of
from microgrid_sync.gateways.live_site import Heard, LiveSite
from microgrid_sync.model.shown import escaped
from microgrid_sync.topology import describe

_WINDOW = 100
"""So many messages are on their way to the broker at the most, unacknowledged."""

_LONGEST_PAUSE = 0.2
"""Seconds between two looks at what has come."""

_TICK = 1.0
"""Seconds between two looks at what grows old by itself."""

_SOON = 0.9
"""The share of an interval after which the next value is due: samples are never on the dot."""

_LONGEST_COMMAND = 4096
"""Bytes."""

_RECONNECT_DELAYS = (1, 10)
"""Seconds, of the first attempt to reconnect and at the most."""

_SWEEP_AFTER = 5.0
"""Seconds after connecting, in which a broker has told what it retains."""

_CLOSE_TIMEOUT = 1.0

_LOG_INTERVAL = 60.0

ONLINE, OFFLINE = "online", "offline"

_logger = logging.getLogger(__name__)


class _Message(NamedTuple):
    """What waits for the broker."""

    topic: str
    payload: str
    retain: bool = True


class _Sent(NamedTuple):
    """What was published last of a source."""

    heard: Heard
    is_valid: bool
    at: float
    """When, on the monotonic clock."""


class _Client(Client):
    """Remembers why it could not connect, which the library tells nobody."""

    failure = ""

    def reconnect(self) -> MQTTErrorCode:
        """See `Client.reconnect`."""
        try:
            return super().reconnect()
        except OSError as error:
            self.failure = getattr(error, "verify_message", "") or error.strerror or str(error)
            raise
        except ValueError as error:
            # A name that cannot be one: the library tries again after an OSError alone.
            self.failure = str(error)
            raise OSError(self.failure) from error


def _leave_to_loop(*_: object) -> None:
    """Have the loop write, which looks by itself for what there is to write."""


Layout = Literal["values", "objects"]
"""Whether each value has a topic of its own, or each component and total."""


class MqttGateway:
    """Publishes a site at an MQTT broker until it is closed.

    A value is a retained message ``{"value": ..., "time": ..., "valid": ...}`` on
    ``<prefix>/<site>/<subject>/<name>``; with the layout ``objects`` all values of a component are
    one message on ``<prefix>/<site>/component/<ID>``. While the broker is away, messages wait, as
    many as the buffer holds; then the oldest are dropped. They are sent in order when it is back,
    and all that is known then once more behind them.
    """

    def __init__(
        self,
        site: LiveSite,
        *,
        host: str = "127.0.0.1",
        port: int = 1883,
        prefix: str = "microgrid",
        client_id: str | None = None,
        interval: float = 1.0,
        buffer: int = 100_000,
        keepalive: int = 20,
        user: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        home_assistant: str | None = None,
        layout: Layout = "values",
        source: CommandSource | None = None,
        commands: Commands | None = None,
    ) -> None:
        """Connect to a broker, in the background; it may be down as yet.

        Args:
            site: What is published.
            host: The broker's address or name.
            port: Its TCP port.
            prefix: What all topics begin with.
            client_id: Whom the broker knows this client as; made of the site's name unless given.
            interval: Seconds between two messages of one value at the least.
            buffer: How many messages wait while the broker is away.
            keepalive: Seconds in which a connection that is dead is noticed, and the half of it.
            user: The user's name.
            password: His password.
            tls: How to encrypt; ``None`` not to.
            home_assistant: What the topics of discovery messages begin with; ``None`` for none.
            layout: ``values`` for a topic for each value, ``objects`` for one for each component
                and total, whose message has all its values.
            source: Whose commands those on the command topics are; ``None`` to refuse them.
            commands: What is published as commanded, if not those of the source.
        """
        self._site = site
        self._base = f"{prefix}/{site.name}"
        self._interval = interval
        self._layout = layout
        self._pause = min(_LONGEST_PAUSE, interval / 4)
        self._collected_at = -math.inf
        self._source = source
        self._commands = source.commands if source is not None else commands
        self._entities = None
        if home_assistant is not None:
            self._entities = Entities(home_assistant, self._base, site.name)
        self._place = place_of(host, port)
        # Protects all up to the client, and is told when any of it changes. Nothing is logged, and
        # nothing of the MQTT library called, under it.
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Message] = collections.deque()
        self._buffer = buffer
        self._dropped = 0
        self._handed = self._acknowledged = 0
        self._is_connected = False
        self._is_fresh = True
        """Whether the broker has to be told all that is known."""
        self._has_news = False
        # The network thread's own: the number of the subscription that is waited for.
        self._asked: int | None = None
        self._retained: dict[str, Any] = {}
        """The times of the valid values that the broker had when it was connected, by topic."""
        self._swept_at = math.inf
        self._is_closing = False
        self._refused_at = self._trouble_at = -math.inf
        self._trouble = ""
        # The publishing thread's own.
        self._sent: dict[str, _Sent] = {}
        self._least = 0
        self._told_commands: dict[str, Any] = {}
        self._dropped_told = 0
        self._dropped_told_at = -math.inf
        self._client = self._new_client(client_id, user, password, tls)
        self._client.connect_async(host, port, keepalive)
        self._network = threading.Thread(
            target=self._keep_connected, name=f"microgrid-mqtt-network {site.name}", daemon=True
        )
        self._publisher = threading.Thread(
            target=self._publish, name=f"microgrid-mqtt {site.name}", daemon=True
        )
        self._unlisten = site.listen(self._note_news)
        self._network.start()
        self._publisher.start()

    def _new_client(
        self, client_id: str | None, user: str | None, password: str | None,
        tls: ssl.SSLContext | None,
    ) -> "_Client":  # fmt: skip
        client = _Client(
            CallbackAPIVersion.VERSION2,
            # Brokers throw out the older one of two that have the same.
            client_id=client_id or f"microgrid-sync-{self._site.name}-{secrets.token_hex(4)}",
            protocol=MQTTProtocolVersion.MQTTv311,
            # What was commanded while nobody was there is not carried out afterwards.
            clean_session=True,
        )
        client.max_inflight_messages_set(_WINDOW)
        client.reconnect_delay_set(*_RECONNECT_DELAYS)
        client.will_set(f"{self._base}/status", OFFLINE, qos=1, retain=True)
        if user is not None:
            client.username_pw_set(user, password)
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # With this the loop's thread alone reads and writes, which publishing wakes. Without it the
        # library has whoever publishes write at once, beside the loop: two threads in one TLS
        # connection crash the process, and messages may get mixed up.
        client.on_socket_register_write = _leave_to_loop
        return client

    def __repr__(self) -> str:
        """Say which broker it is."""
        state = "connected" if self._is_connected else "not connected"
        return f"<MqttGateway of {self._site.name} to {self._place}, {state}>"

    @property
    def source(self) -> CommandSource | None:
        """Whose commands those on the command topics are; ``None`` if they are refused."""
        return self._source

    @property
    def place(self) -> str:
        """The broker's host and port."""
        return self._place

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there."""
        return self._is_connected

    @property
    def dropped(self) -> int:
        """How many messages were dropped because the broker was away for too long."""
        return self._dropped

    @property
    def waiting(self) -> int:
        """How many messages wait for the broker."""
        return len(self._waiting)

    @property
    def published(self) -> int:
        """How many messages the broker has acknowledged."""
        return self._acknowledged

    def close(self) -> None:
        """Say ``offline``, and publish nothing any more. Any number of times."""
        self._unlisten()
        with self._changed:
            is_first, self._is_closing = not self._is_closing, True
            self._changed.notify_all()
        if not is_first:
            return
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        current = threading.current_thread()
        if self._publisher is not current:
            self._publisher.join(_CLOSE_TIMEOUT)
        if self._is_connected:
            # A clean farewell keeps the broker from sending the last will.
            self._client.publish(f"{self._base}/status", OFFLINE, qos=0, retain=True)
        self._client.disconnect()
        while self._network is not current and self._network.is_alive():
            # Once more if it was just connecting: then the first word is lost.
            self._client.disconnect()
            self._network.join(0.1)
            if time.monotonic() >= deadline:
                break
        # It knows this gateway, too: else its sockets would stay until the garbage is collected.
        del self._client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # In the thread of the MQTT library's loop

    def _keep_connected(self) -> None:
        told_at = -math.inf
        # `close` lets go of it, and may not wait for this thread.
        client = self._client
        while not self._is_closing:
            try:
                client.loop_forever(retry_first_connection=True)
            except Exception:
                # Whatever a broker sends must not end everything for good.
                now = time.monotonic()
                if now - told_at >= _LOG_INTERVAL:
                    told_at = now
                    _logger.exception("%s: MQTT failed; it goes on", self._site.name)
                time.sleep(_RECONNECT_DELAYS[0])

    def _on_connect(self, client: Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            self._tell_trouble(f"refuses the connection: {reason}")
            return
        if self._is_closing:
            # It was connecting when it was closed.
            client.disconnect()
            return
        if self._source is not None:
            client.subscribe(f"{self._base}/command/+", qos=1)
        if self._entities is not None:
            client.subscribe(self._entities.birth_topic, qos=1)
        with self._changed:
            self._retained.clear()
        # What the broker still has: of a gateway before this one, or of what has gone meanwhile.
        # The answer comes when the library has sent once more what was on its way: only then it is
        # the turn of what has waited.
        _, self._asked = client.subscribe(f"{self._base}/#", qos=1)

    def _on_subscribe(self, client: Client, _: Any, number: int, __: Any, ___: Any) -> None:
        if number != self._asked:
            return
        with self._changed:
            # It is acknowledged as all others are.
            self._handed += 1
        client.publish(f"{self._base}/status", ONLINE, qos=1, retain=True)
        with self._changed:
            self._is_connected = self._is_fresh = True
            self._swept_at = time.monotonic() + _SWEEP_AFTER
            waiting, dropped = len(self._waiting), self._dropped
            was_told, self._trouble = self._trouble, ""
            self._changed.notify_all()
        if was_told:
            _logger.warning(
                "%s: the MQTT broker %s is there; %d messages have waited, %d were dropped so far",
                self._site.name, self._place, waiting, dropped,
            )  # fmt: skip

    def _on_connect_fail(self, client: Client, _: Any) -> None:
        if not self._is_closing:
            why = getattr(client, "failure", "")
            self._tell_trouble(f"cannot be reached: {why}")

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        with self._changed:
            self._is_connected = False
            is_closing = self._is_closing
        if reason.is_failure and not is_closing:
            # The library knows no more than that, usually.
            why = str(reason) if str(reason) != "Unspecified error" else "the connection is lost"
            self._tell_trouble(f"has gone: {why}")

    def _tell_trouble(self, words: str) -> None:
        now = time.monotonic()
        with self._changed:
            is_due = words != self._trouble or now - self._trouble_at >= _LOG_INTERVAL
            if is_due:
                self._trouble, self._trouble_at = words, now
        if is_due:
            _logger.warning("%s: the MQTT broker %s %s", self._site.name, self._place, words)

    def _on_publish(self, _: Client, __: Any, ___: int, ____: Any, _____: Any) -> None:
        with self._changed:
            self._acknowledged += 1
            if self._waiting and self._handed - self._acknowledged == _WINDOW // 2:
                # Not at each one: a thread that is woken for nothing is in the way of others.
                self._changed.notify_all()

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        if self._entities is not None and message.topic == self._entities.birth_topic:
            if message.payload == ONLINE.encode():
                with self._changed:
                    self._is_fresh = True
                    self._changed.notify_all()
            return
        if not message.topic.startswith(f"{self._base}/command/"):
            if message.retain:
                self._note_retained(message)
            return
        if self._source is None:
            # It comes with what is retained; what is not subscribed to is not answered.
            return
        command = message.topic.removeprefix(f"{self._base}/command/")
        if not message.payload and command != "heartbeat":
            # So a retained message is taken back.
            return
        try:
            self._carry_out(self._source, command, message)
        except CommandError as error:
            self._answer(command, error=str(error))
            now = time.monotonic()
            if now - self._refused_at >= _LOG_INTERVAL:
                self._refused_at = now
                _logger.warning(
                    "%s: a command on %s is refused: %s",
                    self._site.name, escaped(message.topic), escaped(str(error)),
                )  # fmt: skip
        else:
            if command != "heartbeat":
                self._answer(command, error=None)

    def _note_retained(self, message: MQTTMessage) -> None:
        """Note a value that the broker has, if it counts as valid."""
        if len(message.payload) > _LONGEST_COMMAND:
            return
        try:
            found = json.loads(message.payload)
        except (ValueError, RecursionError):
            return
        if isinstance(found, Mapping) and found.get("valid") is True:
            with self._changed:
                self._retained[message.topic] = found.get("time")

    def _answer(self, command: str, *, error: str | None) -> None:
        answer = {"accepted": error is None, "error": error, "time": _text(datetime.now(UTC))}
        source = self._source
        if error is None and source is not None and source.is_overdue(time.monotonic()):
            answer["warning"] = "the heartbeat is overdue: the safe value holds until it comes"
        self._add([_Message(f"{self._base}/result/{command}", json.dumps(answer), retain=False)])

    def _carry_out(self, source: CommandSource, command: str, message: MQTTMessage) -> None:
        """Carry out a command.

        Raises:
            CommandError: If it is none.
        """
        if message.retain:
            # It is what somebody wanted at some time, and nobody says now.
            raise CommandError("a retained command is not carried out")
        if command == "heartbeat":
            source.heartbeat()
        elif command == "cap":
            value, lifetime, by = _read_command(message.payload, "power_w")
            source.set_cap(value, lifetime=lifetime, by=_who(message.topic, by))
        elif command == "limit":
            value, lifetime, by = _read_command(message.payload, "current_a")
            source.set_max_current(value, lifetime=lifetime, by=_who(message.topic, by))
        else:
            raise CommandError("there is no such command; there are cap, limit and heartbeat")

    # In the site's thread

    def _note_news(self) -> None:
        with self._changed:
            self._has_news = True
            self._changed.notify_all()

    # The publishing thread

    def _publish(self) -> None:
        look_at = 0.0
        while not self._is_closing:
            try:
                look_at = self._do_next(look_at)
            except Exception:
                # A defect of ours must not end everything for good.
                _logger.exception("%s: publishing failed; it goes on", self._site.name)
                look_at = time.monotonic() + _TICK
            with self._changed:
                while not self._has_work():
                    due = self._collected_at + self._pause if self._has_news else look_at
                    left = min(look_at, due) - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)

    def _do_next(self, look_at: float) -> float:
        """Take what is new, if it is time; hand it over; tell when it is time again."""
        now = time.monotonic()
        with self._changed:
            is_fresh = self._is_fresh and self._is_connected
            self._is_fresh = self._is_fresh and not is_fresh
            # What comes soon after is taken together.
            has_news = self._has_news and now >= self._collected_at + self._pause
            self._has_news = self._has_news and not has_news
        if has_news or is_fresh or now >= look_at:
            self._collected_at = now
            look_at = min(self._collect(now, everything=is_fresh), now + _TICK)
        with self._changed:
            is_due = now >= self._swept_at
            self._swept_at = math.inf if is_due else self._swept_at
        if is_due:
            self._sweep()
        self._hand_over()
        self._tell_dropped(now)
        return look_at

    def _sweep(self) -> None:
        """Say of what the broker has, and nobody knows any more, that it is not valid."""
        self._client.unsubscribe(f"{self._base}/#")
        with self._changed:
            retained = dict(self._retained)
            self._retained.clear()
        known = {
            topic
            for source, sent in self._sent.items()
            for topic in self._topics(source, sent.heard)
        }
        own = None if self._commands is None else f"{self._base}/commands/"
        self._add(
            [
                _Message(topic, json.dumps({"value": None, "time": stamp, "valid": False}))
                for topic, stamp in retained.items()
                if topic not in known and (own is None or not topic.startswith(own))
            ]
        )

    def _has_work(self) -> bool:
        can_hand = self._is_connected and self._waiting and self._is_open()
        is_due = self._has_news and time.monotonic() >= self._collected_at + self._pause
        return bool(
            self._is_closing or is_due or can_hand
            or (self._is_fresh and self._is_connected)
        )  # fmt: skip

    def _is_open(self) -> bool:
        return self._handed - self._acknowledged < _WINDOW

    def _collect(self, now: float, *, everything: bool) -> float:
        """Take what is new, or not valid any more, into the buffer; tell when to look again."""
        found: list[_Message] = []
        again = math.inf
        sources = self._site.sources()
        for source, heard in sources.items():
            before = self._sent.get(source)
            is_valid = heard.is_fresh(now)
            if before is not None and not everything and before.is_valid == is_valid:
                if heard is before.heard or _is_same(heard, before.heard):
                    continue
                due = before.at + _SOON * self._interval
                if now < due:
                    again = min(again, due)
                    continue
            self._sent[source] = _Sent(heard, is_valid, now)
            if self._entities is not None and (everything or before is None):
                found += (_Message(*one) for one in self._discovery(heard))
            found += self._messages(source, heard, is_valid=is_valid)
        for source in self._sent.keys() - sources.keys():
            # It is not there any more: what is retained of it must not look as if it were.
            gone = self._sent.pop(source).heard
            found += self._messages(source, gone, is_valid=False)
            if self._entities is not None:
                # Nor as a thing that may come back.
                found += (_Message(topic, "") for topic, _ in self._discovery(gone))
        found += self._command_messages(everything=everything)
        # One message of each value has room, whatever the buffer, or nothing would ever be whole.
        self._least = max(self._least, len(found))
        self._add(found)
        return again

    def _messages(self, source: str, heard: Heard, *, is_valid: bool) -> Iterator[_Message]:
        stamp = None if heard.timestamp is None else _text(heard.timestamp)
        topics = self._topics(source, heard)
        if self._layout == "objects":
            values = {name: value if is_valid else None for name, value in heard.values.items()}
            is_known = any(value is not None for value in values.values())
            yield _Message(topics[0], json.dumps({"time": stamp, "valid": is_known, **values}))
            return
        time_ = json.dumps(stamp)
        for topic, value in zip(topics, heard.values.values(), strict=True):
            known = value if is_valid else None
            valid = "false" if known is None else "true"
            yield _Message(
                topic, f'{{"value": {json.dumps(known)}, "time": {time_}, "valid": {valid}}}'
            )

    def _discovery(self, heard: Heard) -> Iterator[tuple[str, str]]:
        if self._entities is None:
            return iter(())
        kind, _, number = heard.subject.partition("/")
        component = None
        if kind in {"component", "charger"}:
            component = self._site.components.get(int(number))
        called = heard.subject.replace("/", " ")
        if component is not None:
            called = f"{describe(component).partition(': ')[2]} {number}"
        return discovery(self._entities, heard, called)

    def _topics(self, source: str, heard: Heard) -> list[str]:
        """Name the topics of a source: one for all of it, or one for each value."""
        # The same strings for all messages that wait.
        if self._layout == "objects":
            return [sys.intern(f"{self._base}/{source.replace(':', '/')}")]
        return [sys.intern(f"{self._base}/{heard.subject}/{name}") for name in heard.values]

    def _command_messages(self, *, everything: bool) -> Iterator[_Message]:
        if self._commands is None:
            return
        state = self._commands.state()
        values = {
            "cap_w": state.cap_w,
            "cap_by": state.cap_by,
            "is_safe_value": state.is_safe_value,
            "max_current_a": state.max_current_a,
            "max_current_by": state.max_current_by,
            "error": state.error,
        }
        for name, value in values.items():
            if everything or name not in self._told_commands or self._told_commands[name] != value:
                self._told_commands[name] = value
                now = _text(datetime.now(UTC))
                payload = json.dumps({"value": value, "time": now, "valid": True})
                yield _Message(f"{self._base}/commands/{name}", payload)
        if everything and self._entities is not None and self._source is not None:
            yield from (_Message(*one) for one in cap_entities(self._entities))

    def _add(self, messages: list[_Message]) -> None:
        """Let messages wait, at the expense of the oldest if there are too many."""
        with self._changed:
            self._waiting.extend(messages)
            while len(self._waiting) > max(self._buffer, self._least):
                self._waiting.popleft()
                self._dropped += 1
            self._changed.notify_all()

    def _hand_over(self) -> None:
        """Give the broker what it can take now."""
        while True:
            with self._changed:
                if not (self._is_connected and self._waiting and self._is_open()):
                    return
                message = self._waiting.popleft()
                self._handed += 1
            # The library keeps it until it is acknowledged, over a reconnect, too.
            try:
                self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
            except Exception:
                # It will never be acknowledged.
                with self._changed:
                    self._handed -= 1
                raise

    def _tell_dropped(self, now: float) -> None:
        dropped = self._dropped
        if dropped != self._dropped_told and now - self._dropped_told_at >= _LOG_INTERVAL:
            self._dropped_told, self._dropped_told_at = dropped, now
            _logger.warning(
                "%s: the MQTT broker takes too little; messages dropped so far: %d",
                self._site.name, dropped,
            )  # fmt: skip


def _is_same(one: Heard, other: Heard) -> bool:
    """Tell whether nothing is new."""
    return one.timestamp == other.timestamp and one.values == other.values


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _who(topic: str, by: str | None) -> str:
    return f"MQTT {escaped(topic)}" + (f" ({escaped(by)})" if by else "")


_EXAMPLES = {"power_w": 11000, "current_a": 40}


def _read_command(payload: bytes | bytearray, name: str) -> tuple[Any, Any, str | None]:
    """Read what a command says: the value, for how many seconds it holds, and by whom it is.

    Raises:
        CommandError: If it is none.
    """
    right = f'{{"{name}": {_EXAMPLES[name]}, "lifetime_s": 300}}'
    if len(payload) > _LONGEST_COMMAND:
        raise CommandError(f"a command has at most {_LONGEST_COMMAND} bytes, not {len(payload)}")
    try:
        given = json.loads(payload)
    except (ValueError, RecursionError):
        raise CommandError(f"the message must be JSON such as {right}") from None
    if not isinstance(given, Mapping):
        raise CommandError(f"the message must be an object such as {right}")
    if name not in given:
        raise CommandError(f"{name!r} is missing; an object is needed such as {right}")
    unknown = given.keys() - {name, "lifetime_s", "by"}
    if unknown:
        raise CommandError(
            f"{sorted(unknown)[0]!r} is unknown; an object is needed such as {right}"
        )
    value, lifetime, by = given[name], given.get("lifetime_s"), given.get("by")
    if value is not None and lifetime is None:
        raise CommandError(f"'lifetime_s' is missing, the seconds that it holds, as in {right}")
    if by is not None and not isinstance(by, str):
        raise CommandError("'by' must be a string")
    return value, None if value is None else lifetime, by
