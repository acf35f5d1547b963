"""Serves a running simulated site over gRPC."""

import logging
import math
import threading
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Self, TypeVar

import grpc

from microgrid_sync.simulator.description.load import DescribedSite, SiteSource, load_site
from microgrid_sync.simulator.life.running_site import Event, Restart, RunningSite
from microgrid_sync.simulator.life.streams import End
from microgrid_sync.simulator.physics.site import Site
from microgrid_sync.simulator.serving.call_threads import ThreadPerCall, is_call_thread
from microgrid_sync.simulator.serving.faults import Faults
from microgrid_sync.simulator.serving.tls import Certificate
from microgrid_sync.simulator.serving.trouble_service import trouble_service
from microgrid_sync.simulator.serving.v0_15 import v0_15_service
from microgrid_sync.simulator.serving.v1alpha18 import v1alpha18_service
from microgrid_sync.wire import API_NAMES

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)

_GRACE = 0.5
"""Seconds that calls have to end by themselves when the server stops."""

_ANSWER_GRACE = 0.5
"""Likewise when a call has asked for the server to be gone: time for its answer."""

_STOP_TIMEOUT = 5.0
"""Seconds in which everything has stopped."""

_TRY_AGAIN = 1.0
"""Seconds of the site's clock after which a server whose port is in use tries again."""

_FASTEST = 1e6


class Simulator:
    """Serves a simulated site, and runs it.

    Any thread may start, stop and change it. Its threads are daemons, named ``simulator-...``.
    """

    def __init__(
        self,
        site: SiteSource | Site = "demo",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        sample_interval: float | None = None,
        seed: int | None = None,
        start: datetime | None = None,
        api: Collection[str] = API_NAMES,
        tls: bool = False,
    ) -> None:
        """Make a simulator that does not serve yet.

        Args:
            site: The name of a shipped site, the path of a TOML file, the same structure as a
                mapping, or a site that `load_site` has made; that belongs to the simulator then.
            host: The address to serve on: loopback unless given.
            port: The TCP port; 0 takes a free one, and keeps it.
            speed: Seconds of the site's clock for each second of the machine's. With 0 the clock
                stands, and `step` moves it.
            sample_interval: Seconds between two samples of every component, in place of the
                description's own.
            seed: Takes the place of the description's own.
            start: Date and time at which the site's clock begins, in place of the description's
                own; without either it follows the time of day.
            api: The generations of the API that it speaks, all on one port; all of them unless
                given.
            tls: Whether it is encrypted, with a certificate that is made on the spot, and whose
                authority stands in a file that `url` names. Needs the package ``trustme``, which
                comes with ``pip install 'microgrid_sync[tls]'``.

        Raises:
            SiteError: If the description is wrong; a `ValueError` that says where.
            ValueError: If a number is out of range.
            OSError: If the file cannot be read.
            ImportError: If it is to be encrypted, and trustme is not installed.
        """
        if isinstance(api, str) or not api or not set(api) <= set(API_NAMES):
            raise ValueError(f"api must be some of {', '.join(API_NAMES)}, not {api!r}")
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {port}")
        if not 0 <= speed <= _FASTEST:
            raise ValueError(f"speed must be 0 to {_FASTEST:g}, not {speed!r}")
        if sample_interval is not None and not (
            math.isfinite(sample_interval) and sample_interval > 0
        ):
            raise ValueError(f"sample_interval must be positive, not {sample_interval!r}")
        if not isinstance(site, Site):
            site = load_site(site, seed=seed, start=start, sample_interval=sample_interval)
        elif (seed, start, sample_interval) != (None, None, None):
            raise ValueError("a site that has been made has its seed, start and intervals already")
        self._host = f"[{host}]" if ":" in host else host
        self._port = port
        self._speed = speed
        self._api = tuple(name for name in API_NAMES if name in api)
        self._certificate = Certificate(host) if tls else None
        scheduled = site.scheduled_faults if isinstance(site, DescribedSite) else ()
        self._running_site = RunningSite(site, speed=speed, scheduled_faults=scheduled)
        self._faults = Faults(self._running_site, self._do)
        self._clock_thread: threading.Thread | None = None
        # One thread at a time starts or stops the simulator, and has it done when it goes on.
        # Taken before all other locks. Re-entrant, so that a signal handler may stop it.
        self._lifecycle = threading.RLock()
        # Protects the three below, which the clock's thread uses too.
        self._serving = threading.RLock()
        self._server: grpc.Server | None = None
        self._is_running = False
        self._gone_until = 0.0

    @property
    def url(self) -> str:
        """The URL for clients; the port is known once the simulator has been started."""
        url = f"grpc://{self._host}:{self._port}"
        return url if self._certificate is None else f"{url}?{self._certificate.parameters}"

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start if a free one is to be taken."""
        return self._port

    @property
    def faults(self) -> Faults:
        """What goes wrong at the site; may be changed at any time."""
        return self._faults

    @property
    def time(self) -> datetime:
        """Date and time of the site's newest samples, in UTC."""
        return self._running_site.ask(lambda site: site.time)

    def change(self, change: Callable[[Site], T]) -> T:
        """Ask or change something of the site between two samples.

        Args:
            change: A function of the site; it must not wait.

        Returns:
            What the function returns.
        """
        return self._running_site.ask(change)

    def step(self, seconds: float, *, until_sent: float | None = None) -> None:
        """Let a standing clock go on, through every sample and fault on its way.

        It takes as long as the machine needs. Clients are waited for when they are far behind.

        Args:
            seconds: Seconds of the site's clock.
            until_sent: Wait until all samples have been sent, too, for so many seconds of the
                machine's at the most. What has been sent to a client on the same machine is there a
                moment later. Unless given, what is to be sent waits for its clients.

        Raises:
            ValueError: If one of them is negative or not finite.
            TimeoutError: If not all samples could be sent in time, because a client does not read.
            RuntimeError: If the clock runs by itself, or the simulator has not been started or is
                stopped meanwhile.
        """
        if until_sent is not None and not (math.isfinite(until_sent) and until_sent >= 0):
            raise ValueError(f"until_sent must be 0 or more seconds, not {until_sent!r}")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"seconds must be 0 or more, not {seconds!r}")
        self._refuse_within_change("step")
        if self._speed:
            raise RuntimeError(f"the clock runs by itself, at speed {self._speed:g}")
        if not self._is_running:
            raise RuntimeError("the simulator has not been started")
        for events in self._running_site.steps(seconds):
            self._do(events)
            self._running_site.let_clients_keep_up()
        if until_sent is not None and not self._running_site.wait_until_sent(until_sent):
            raise TimeoutError(f"not all samples could be sent within {until_sent:g} s")

    def start(self) -> Self:
        """Serve; on the same port as before if it has been stopped.

        Returns:
            Itself.

        Raises:
            RuntimeError: If it is serving already.
            OSError: If the address cannot be served on, because it is in use for instance.
        """
        self._refuse_within_change("start")
        with self._lifecycle:
            with self._serving:
                if self._is_running:
                    raise RuntimeError(f"{self.url} is being served already")
                self._listen()
                self._is_running = True
                self._gone_until = 0.0
            events = self._running_site.start()
            if self._speed:
                self._clock_thread = threading.Thread(
                    target=self._run_clock, name="simulator-clock", daemon=True
                )
                self._clock_thread.start()
            self._do(events)
        return self

    def stop(self) -> None:
        """End all streams and stop serving; the site stands still. Idempotent.

        Raises:
            RuntimeError: If it is called within `change`, which all streams wait for.
        """
        self._refuse_within_change("stop")
        with self._lifecycle:
            with self._serving:
                self._is_running = False
                server, self._server = self._server, None
            # Streams end by themselves, in good order, before what is still open is cut off.
            self._running_site.stop()
            thread, self._clock_thread = self._clock_thread, None
            if thread is not None and thread is not threading.current_thread():
                thread.join(_STOP_TIMEOUT)
            if server is not None:
                server.stop(_GRACE).wait(_STOP_TIMEOUT)

    def _refuse_within_change(self, what: str) -> None:
        if self._running_site.is_asking():
            raise RuntimeError(f"{what}() cannot be called by a function that change() calls")

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _listen(self) -> None:
        options = [
            # Two servers on one port would each get some of the clients.
            ("grpc.so_reuseport", 0),
            # Clients may check a silent connection as often as they like.
            ("grpc.http2.min_ping_interval_without_data_ms", 100),
            ("grpc.http2.max_ping_strikes", 0),
        ]
        site = self._running_site
        handlers = [
            v0_15_service(site) if name == "v0.15" else v1alpha18_service(site, name)
            for name in self._api
        ]
        handlers.append(trouble_service(self._faults))
        server = grpc.server(ThreadPerCall(), handlers=handlers, options=options)
        address = f"{self._host}:{self._port}"
        try:
            if self._certificate is None:
                self._port = server.add_insecure_port(address)
            else:
                self._port = server.add_secure_port(address, self._certificate.credentials())
        except RuntimeError as error:
            raise OSError(
                f"cannot serve on {self._host}:{self._port}: it is in use, or no address of this "
                "machine"
            ) from error
        server.start()
        self._server = server

    # The clock

    def _run_clock(self) -> None:
        try:
            while (events := self._running_site.wait_and_advance()) is not None:
                self._do(events)
                self._running_site.let_clients_keep_up()
        except Exception:
            # A defect of ours, or a device that was changed into something impossible: nobody
            # must wait for a site that will not move again.
            _LOGGER.exception("The simulated site cannot go on")
            self._running_site.stop(End("INTERNAL", "the simulated site has failed"))

    def _do(self, events: list[Event]) -> None:
        """Do what the clock has come to, in the thread that has moved it."""
        for event in events:
            if isinstance(event, Restart):
                self._go_away(event.seconds)
            else:
                event()

    def _go_away(self, seconds: float) -> None:
        """Cut all calls off, and serve again after some seconds of the site's clock."""
        until = self._running_site.clock() + seconds
        with self._serving:
            if not self._is_running:
                return
            server, self._server = self._server, None
            self._gone_until = max(self._gone_until, until)
        self._running_site.later(seconds, self._come_back)
        if server is None:
            return
        if is_call_thread():
            # It is itself one of those that are cut off, and does not wait for it.
            server.stop(_ANSWER_GRACE)
        else:
            server.stop(None).wait(_STOP_TIMEOUT)

    def _come_back(self) -> None:
        # The last of several that have asked for it decides.
        is_early = self._running_site.clock() < self._gone_until - 1e-6
        with self._serving:
            if is_early or not self._is_running or self._server is not None:
                return
            try:
                self._listen()
            except OSError as error:
                problem = error
            else:
                return
        _LOGGER.warning("%s; trying again", problem)
        self._running_site.later(_TRY_AGAIN, self._come_back)
