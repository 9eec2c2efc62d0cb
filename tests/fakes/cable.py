"""A cable between a client and a server on loopback, which can be pulled out and put back: the address stays the same."""

import contextlib
import socket
import threading
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 65536


class Cable:
    """Carries TCP connections to the server at `url`. Unplugged, it refuses new ones and has cut the others."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._target = parts.hostname, parts.port or 80
        self._listener: socket.socket | None = None
        self._port = 0
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def plug(self) -> None:
        """Carry connections, if it does not yet."""
        with self._lock:
            if self._listener is not None:
                return
            self._listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
            self._port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def unplug(self) -> None:
        """Cut every connection, and take no new one."""
        with self._lock:
            listener, self._listener = self._listener, None
            ends, self._ends = self._ends, set()
        for end in [*([listener] if listener else []), *ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._target, timeout=10)
            except OSError:
                if self._listener is not listener:
                    return
                continue
            far.settimeout(None)
            with self._lock:
                if self._listener is not listener:
                    near.close()
                    far.close()
                    return
                self._ends |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(_CHUNK):
                other.sendall(content)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
