"""Clients of AWS's own services, where an operator has put keys or secrets there: one for each region, made once.

Credentials come from where AWS's own tools look for them. Calls are blocking: make them in a thread. This module asks
AWS nothing, and does not say which services are used or for what.
"""

import functools
import re
import threading
from collections import OrderedDict
from typing import Any

REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]", re.ASCII)
"""What a region looks like: it becomes part of a host name."""

_MOST = 32


class AwsClients:
    """The clients of one service. Times in seconds, for one attempt; every call is tried twice at most.

    `endpoint_url` replaces AWS's own endpoints of every region.
    """

    def __init__(
        self, service: str, *, endpoint_url: str | None, connect: float = 2.0, read: float = 3.0, connections: int = 10
    ) -> None:
        self._service = service
        self._endpoint_url = endpoint_url
        self._connect = connect
        self._read = read
        self._connections = connections
        self._made: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()  # using a client is safe in many threads, making one is not

    def of(self, region: str) -> Any:
        """Return the botocore client of a region. Raises ValueError for what is no region."""
        if not REGION.fullmatch(region):
            raise ValueError("not a region of AWS")
        with self._lock:
            client = self._made.get(region) or self._make(region)
            self._made[region] = client
            self._made.move_to_end(region)
            if len(self._made) > _MOST:  # whoever still uses the oldest goes on using it
                self._made.popitem(last=False)
            return client

    def close(self) -> None:
        """Give back every connection."""
        for client in self._made.values():
            client.close()

    def _make(self, region: str) -> Any:
        # Slow to import, and needed only where something stands at AWS.
        import botocore.session  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        session = botocore.session.get_session()
        session.register_component("data_loader", _models())
        config = Config(
            connect_timeout=self._connect,
            read_timeout=self._read,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=self._connections,
        )
        return session.create_client(self._service, region_name=region, endpoint_url=self._endpoint_url, config=config)


@functools.cache
def _models() -> Any:
    """Return the service models, read once for all clients of this process: reading them is most of the work."""
    from botocore.loaders import create_loader  # noqa: PLC0415

    return create_loader()
