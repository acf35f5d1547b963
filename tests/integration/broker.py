"""Debian's mosquitto, in a process of its own on a free port, and a client that notes it all."""

import contextlib
import json
import queue
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any, NamedTuple, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from microgrid_sync.simulator.serving.ports import reserved_port
from tests.support.waiting import PATIENCE, eventually


class Broker:
    """A broker that a test can kill and start again on the same port."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self._folder = folder
        self._settings = settings
        self._port_held = contextlib.ExitStack()
        self.port = self._port_held.enter_context(reserved_port())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._port_held.close()

    def start(self) -> None:
        # Else it drops what a listener that is slow, on a busy machine, does not take in time.
        general = ("max_queued_messages 0", f"listener {self.port} 127.0.0.1")
        settings = self._settings or ("allow_anonymous true",)
        path = self._folder / "mosquitto.conf"
        path.write_text("\n".join([*general, *settings, ""]))
        # As root it would become another user, who may not read the test's folder.
        command = ["mosquitto", "-c", str(path)]
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        assert eventually(self._listens), (self._folder / "mosquitto.log").read_text()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it without a farewell."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(PATIENCE)
            self._process = None

    def end(self) -> None:
        """End it in good order: it keeps what it has."""
        self._signal(signal.SIGTERM)
        if self._process is not None:
            self._process.wait(PATIENCE)
            self._process = None

    def stop(self) -> None:
        """Let it do nothing any more, without closing anything."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)


class Told(NamedTuple):
    """A message that has come."""

    topic: str
    payload: str
    retained: bool

    @property
    def value(self) -> Any:
        return json.loads(self.payload)["value"]


class Listener:
    """Subscribes to all topics, and can publish."""

    def __init__(self, port: int, topic: str = "#", **keywords: str) -> None:
        self.told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self.newest: dict[str, Told] = {}
        self.all: list[Told] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        if keywords:
            self._client.username_pw_set(**keywords)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(PATIENCE)

    def _take(self, _: object, __: object, message: MQTTMessage) -> None:
        told = Told(message.topic, bytes(message.payload).decode(), message.retain)
        self.newest[message.topic] = told
        self.all.append(told)

    def publish(self, topic: str, payload: object, *, retain: bool = False) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self._client.publish(topic, text, qos=1, retain=retain).wait_for_publish(PATIENCE)

    def text(self, topic: str) -> str | None:
        """Give the newest message of a topic; ``None`` if nothing has come."""
        told = self.newest.get(topic)
        return None if told is None else told.payload

    def value(self, topic: str) -> Any:
        """Give the newest value of a topic; ``None`` if nothing has come, or it is not valid."""
        told = self.newest.get(topic)
        return None if told is None else told.value

    def is_valid(self, topic: str) -> bool | None:
        told = self.newest.get(topic)
        return None if told is None else bool(json.loads(told.payload)["valid"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        # Its sockets go with it.
        del self._client
