"""The server: HTTP/1.1 and WebSockets with bounds, in one process or several workers on one socket.

`serving` runs the application, `http` and `web_sockets` read what callers send, `taking` watches that they take what
they are sent. Nothing here knows what a request asks for.
"""

from identity_gateway.server.http import BoundedProtocol
from identity_gateway.server.serving import serve
from identity_gateway.server.web_sockets import BoundedWebSocket

__all__ = ["BoundedProtocol", "BoundedWebSocket", "serve"]
