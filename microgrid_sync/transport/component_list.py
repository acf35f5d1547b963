"""Keeps the list of a connection's components: fetched once, by one thread, for all who ask."""

import copy
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc

from microgrid_sync.exceptions import ApiClientError, GrpcStatus, OperationTimedOut
from microgrid_sync.model import Component, ComponentCategory
from microgrid_sync.transport.channel import site_of

Reply = Callable[[Exception | None], None]
"""Called once: with nothing if the component is known, else with the reason why it is not."""


@dataclass(frozen=True)
class _Waiter:
    """Somebody who waits for a list that shows a component."""

    component_id: int
    category: ComponentCategory | None
    reply: Reply


class ComponentList:
    """What was last fetched, and who waits for a newer list.

    Any thread may ask. No lock is held across a call: a thread named ``microgrid-component-list``
    makes it, for as long as somebody waits, and who waits gives up on its own account.
    """

    def __init__(self, server_url: str, fetch: Callable[[], list[Component]]) -> None:
        """Know nothing yet.

        Args:
            server_url: The server's URL, for errors.
            fetch: Asks the server, with a deadline of its own; raises `ApiClientError`.
        """
        self._server_url = server_url
        self._fetch = fetch
        # Replaced as a whole; read without the lock.
        self._known: Mapping[int, Component] = {}
        # Protects the two below.
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._is_fetching = False

    def remember(self, components: list[Component]) -> None:
        """Keep a list that somebody has fetched."""
        self._known = {component.component_id: component for component in components}

    def require(
        self, component_id: int, category: ComponentCategory | None, timeout: float
    ) -> None:
        """Wait until a component is known; ask the server if it is not.

        Args:
            component_id: The component.
            category: What it must be; ``None`` takes any.
            timeout: Seconds.

        Raises:
            ValueError: If there is no such component, or it is of another category.
            ApiClientError: If the server had to be asked, and that failed or took too long.
        """
        if _is(self._known.get(component_id), category):
            return
        answer: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self.when_known(component_id, category, answer.put)
        try:
            error = answer.get(timeout=timeout)
        except queue.Empty:
            status = GrpcStatus(
                grpc.StatusCode.DEADLINE_EXCEEDED, "no list of components within the timeout"
            )
            raise OperationTimedOut(
                server_url=self._server_url, operation="components()", grpc_error=status
            ) from None
        if error is not None:
            raise error

    def component(self, component_id: int, timeout: float) -> Component:
        """Give a component; see `require`."""
        self.require(component_id, None, timeout)
        return self._known[component_id]

    def when_known(
        self, component_id: int, category: ComponentCategory | None, reply: Reply
    ) -> None:
        """Call back when a component is known, or is known not to be there; does not wait."""
        if _is(self._known.get(component_id), category):
            reply(None)
            return
        with self._lock:
            self._waiters.append(_Waiter(component_id, category, reply))
            starts, self._is_fetching = not self._is_fetching, True
        if starts:
            thread = threading.Thread(
                target=self._fetch_for_all,
                name=f"microgrid-component-list {site_of(self._server_url)}",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError:
                # At the end of the program there may be no other thread.
                self._fetch_for_all()

    def _fetch_for_all(self) -> None:
        """Fetch lists until nobody waits."""
        while True:
            with self._lock:
                if not self._waiters:
                    self._is_fetching = False
                    return
                # Those that come from now on may know more than the list that is fetched now.
                waiters, self._waiters = self._waiters, []
            error: Exception | None = None
            try:
                self.remember(self._fetch())
            except Exception as failure:  # noqa: BLE001 - whatever it is, those who wait raise it
                # Without its traceback, which would keep alive what the frames in it hold.
                error = failure.with_traceback(None)
            for waiter in waiters:
                waiter.reply(self._outcome(waiter, error))
            self._reply_to_known()

    def _reply_to_known(self) -> None:
        """Reply to those who came meanwhile, and whom this list serves."""
        known = self._known
        served: list[_Waiter] = []
        unserved: list[_Waiter] = []
        with self._lock:
            for waiter in self._waiters:
                is_known = _is(known.get(waiter.component_id), waiter.category)
                (served if is_known else unserved).append(waiter)
            self._waiters = unserved
        for waiter in served:
            waiter.reply(None)

    def _outcome(self, waiter: _Waiter, error: Exception | None) -> Exception | None:
        """Tell somebody who has waited for a fetch what came of it."""
        known = self._known
        component = known.get(waiter.component_id)
        if _is(component, waiter.category):
            return None
        if error is not None:
            return copy.copy(error) if isinstance(error, ApiClientError) else error
        names = _name_all(known, waiter.category)
        if component is None or waiter.category is None:
            return ValueError(
                f"unknown component {waiter.component_id} on {self._server_url}; {names}"
            )
        return ValueError(
            f"component {waiter.component_id} on {self._server_url} is of category "
            f"{component.category.name}, not {waiter.category.name}; {names}"
        )


def _is(component: Component | None, category: ComponentCategory | None) -> bool:
    return component is not None and category in (None, component.category)


def _name_all(known: Mapping[int, Component], category: ComponentCategory | None) -> str:
    """List the components of a category, to choose the right one from."""
    ids = sorted(i for i, component in known.items() if _is(component, category))
    of = "" if category is None else f" of category {category.name}"
    if not ids:
        return f"there are none{of}"
    listed = ", ".join(str(component_id) for component_id in ids[:20])
    return f"those{of or ' there'}: {listed}{', ...' if len(ids) > 20 else ''}"
