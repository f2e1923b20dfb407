"""A TCP proxy that loses what a server answers, as a network does at the wrong moment."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class LossyProxy:
    """Forwards connections to ``upstream``; answers can be dropped, and connections cut."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._losing = threading.Event()
        self._open: list[socket.socket] = []

    def lose_answers(self) -> None:
        """Drop everything that the server says from now on, to the connections there are."""
        self._losing.set()

    def cut(self) -> None:
        """End all connections, and treat those that come after it well."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._losing = threading.Event()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed: the test is over
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
                self._open += [client, server]
                losing = self._losing
                self._forward(client, server, threading.Event())
                self._forward(server, client, losing)

    def _forward(
        self, source: socket.socket, target: socket.socket, losing: threading.Event
    ) -> None:
        def pump() -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    if not losing.is_set():
                        target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=pump, daemon=True).start()


@contextmanager
def lossy_proxy(upstream: tuple[str, int]) -> Iterator[LossyProxy]:
    proxy = LossyProxy(upstream)
    threading.Thread(target=proxy._accept, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy._listener.close()
        proxy.cut()
