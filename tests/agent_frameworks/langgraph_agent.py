"""A LangGraph agent behind the gateway. Its model is a script: it calls the one tool, then says what the tool answered.

The tool asks the gateway for an API key through the SDK's decorator, as the workload that the gateway said it is.
Payload: `{"prompt": …}`, with `"stream": true` for events. It runs in the environment of requirements/langgraph.txt.
"""

import argparse
import os
from collections.abc import AsyncIterator
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.identity.auth import requires_api_key
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

app = BedrockAgentCoreApp()


@requires_api_key(provider_name=os.environ.get("AGENT_KEY", "key"))
async def _key(*, api_key: str = "") -> str:
    return api_key


@tool
async def ship(parcel: str) -> str:
    """Ship a parcel."""
    return f"{parcel} shipped with {await _key()}"


async def model(state: MessagesState) -> dict[str, Any]:
    """Ask for the tool with the user's words, then repeat its result word by word."""
    last = state["messages"][-1]
    if isinstance(last, ToolMessage):
        return {"messages": [await GenericFakeChatModel(messages=iter([str(last.content)])).ainvoke([last])]}
    call = {"name": "ship", "args": {"parcel": last.content}, "id": "call-1"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


def after_model(state: MessagesState) -> str:
    """Go on to the tool as long as the model asks for one."""
    return "tools" if state["messages"][-1].tool_calls else END


graph = StateGraph(MessagesState)
graph.add_node("model", model)
graph.add_node("tools", ToolNode([ship]))
graph.add_edge(START, "model")
graph.add_conditional_edges("model", after_model, ["tools", END])
graph.add_edge("tools", "model")
compiled = graph.compile()


async def _words(prompt: str) -> AsyncIterator[str]:
    async for message, _ in compiled.astream({"messages": [("user", prompt)]}, stream_mode="messages"):
        if isinstance(message, AIMessageChunk) and str(message.content).strip():
            yield str(message.content)


@app.entrypoint
async def answer(payload: dict[str, Any]) -> Any:
    """Answer with JSON, or with an event for each word."""
    if payload.get("stream"):
        return ({"word": word.strip()} async for word in _words(payload["prompt"]))
    done = await compiled.ainvoke({"messages": [("user", payload["prompt"])]})
    return {"framework": "langgraph", "answer": done["messages"][-1].content}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    app.run(port=parser.parse_args().port, host="127.0.0.1")
