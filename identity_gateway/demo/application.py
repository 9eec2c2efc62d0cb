"""The demo's web application: the page that users come back to after consent. It knows who is signed in to it.

What it shows is the part that every application has to write: take the user from its own session, never from the URL,
and tell the gateway with CompleteResourceTokenAuth. Here one person is always signed in.
"""

import argparse
import html

import boto3
import uvicorn
from botocore.exceptions import ClientError
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

USER = "ada"


def application() -> FastAPI:
    """Return the application; it calls the gateway that AWS_ENDPOINT_URL_BEDROCK_AGENTCORE names."""
    app = FastAPI(openapi_url=None)
    gateway = boto3.client("bedrock-agentcore")

    @app.get("/")
    async def alive() -> Response:
        return HTMLResponse(_PAGE.format(title="Demo application", text=f"You are signed in as {USER}."))

    @app.get("/return")
    def came_back(request: Request) -> Response:
        query = request.query_params
        if "error" in query:
            text = f"You did not give access: {query['error']}. Ask the agent again when you want to."
            return HTMLResponse(_PAGE.format(title="No access given", text=html.escape(text)))
        try:
            gateway.complete_resource_token_auth(
                sessionUri=query.get("session_id", ""), userIdentifier={"userId": USER}
            )
        except ClientError as error:
            return HTMLResponse(_PAGE.format(title="That did not work", text=html.escape(str(error))), 400)
        return HTMLResponse(_PAGE.format(title="Access given", text="The agent goes on by itself. Close this page."))

    return app


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:1.1rem system-ui;max-width:30rem;margin:4rem auto;padding:0 1rem}}</style>
<h1>{title}</h1><p>{text}</p></html>"""


def main() -> None:
    """Serve on loopback."""
    parser = argparse.ArgumentParser(description="The demo's web application.")
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(application(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
