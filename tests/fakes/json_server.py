"""A real HTTP server on loopback whose answers are a function; it can be told to keep everybody waiting.

`with JsonServer(answer) as server:` runs it in threads, so that clients of an event loop and clients that block can both
be pointed at it.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Answer = Callable[[Asked], tuple[int, Any]]


class JsonServer:
    """`asked` are the requests so far. Answers are JSON of any value, or bytes as they are."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._open = threading.Event()
        self._open.set()

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.001,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def hold(self) -> None:
        """Keep everybody waiting who asks from now on."""
        self._open.clear()

    def release(self) -> None:
        """Answer everybody again."""
        self._open.set()

    def take(self, asked: Asked) -> tuple[int, bytes]:
        self.asked.append(asked)
        self._open.wait(WAIT_SECONDS)
        status, document = self.answer(asked)
        return status, document if isinstance(document, bytes) else json.dumps(document).encode()


def _handler(server: JsonServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = server.take(Asked(self.command, self.path, headers, body))
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # whoever asked has left
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the overridden method
            pass

    return Handler
