"""Real A2A agents: the official SDK's server, whose card sends clients and their tokens to the agent itself.

`running_a2a_agent()` runs one with uvicorn in a thread. It answers a text with that text in upper case.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from a2a.helpers import get_message_text, new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentCardSignature,
    AgentInterface,
    AgentProvider,
    AgentSkill,
    OpenIdConnectSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)
from starlette.applications import Starlette

from tests.gateways import free_port
from tests.mcp_agents import running_app

ELSEWHERE = "https://tokens.elsewhere.example"


class Shout(AgentExecutor):
    """Answers in upper case."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.message is not None
        await event_queue.enqueue_event(new_text_message(get_message_text(context.message).upper()))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise RuntimeError("there is nothing to cancel")


def card_of(url: str) -> AgentCard:
    """Return a card that names the agent's own address, an issuer elsewhere, an extended card, and a signature."""
    bindings = [("JSONRPC", "1.0"), ("JSONRPC", "0.3"), ("GRPC", "1.0"), ("HTTP+JSON", "1.0")]
    elsewhere = OpenIdConnectSecurityScheme(open_id_connect_url=f"{ELSEWHERE}/.well-known/openid-configuration")
    return AgentCard(
        name="Shout",
        description="Says it louder.",
        version="1.0.0",
        provider=AgentProvider(organization="Loud", url="https://loud.example"),
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding=binding, protocol_version=version) for binding, version in bindings
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=False, extended_agent_card=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="shout", name="shout", description="Upper case", tags=["text"])],
        security_schemes={"elsewhere": SecurityScheme(open_id_connect_security_scheme=elsewhere)},
        security_requirements=[SecurityRequirement(schemes={"elsewhere": StringList(list=["all"])})],
        signatures=[AgentCardSignature(protected="e30", signature="c2lnbmF0dXJl")],
    )


@dataclass
class A2aAgent:
    """A running agent: the URL to register, and the heads of the requests that reached it."""

    url: str
    received: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def running_a2a_agent() -> Iterator[A2aAgent]:
    """Run an A2A agent of its own."""
    port = free_port()
    agent = A2aAgent(f"http://127.0.0.1:{port}")
    card = card_of(agent.url)
    answering = DefaultRequestHandler(agent_executor=Shout(), task_store=InMemoryTaskStore(), agent_card=card)
    routes = [*create_agent_card_routes(card), *create_jsonrpc_routes(answering, "/", enable_v0_3_compat=True)]
    app = Starlette(routes=routes)

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            agent.received.append({"method": scope["method"], "path": scope["path"], "headers": headers})
        await app(scope, receive, send)

    with running_app(watched, port):
        yield agent
