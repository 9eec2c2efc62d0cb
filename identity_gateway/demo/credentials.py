"""The demo's second half: the agent gets third-party credentials, for the user who consents and for itself."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urljoin

import httpx2

from identity_gateway.demo.agent import KEY_PROVIDER, VENDOR_PROVIDER
from identity_gateway.demo.application import USER
from identity_gateway.demo.vendor import CLIENT_ID, PERSON

Step = Callable[[], Iterator[str]]

AGENT_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["bedrock-agentcore:GetResourceOauth2Token", "bedrock-agentcore:GetResourceApiKey"],
            "Resource": "*",
        }
    ],
}
APPLICATION_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "bedrock-agentcore:CompleteResourceTokenAuth", "Resource": "*"},
    ],
}

_CLICKS = 12
_FIELD = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)"')


@dataclass
class Credentials:
    """What the agent is given, and how the user is asked. `click` is true when no person is there to do it."""

    control: Any
    data: Any
    vendor: str
    vendor_secret: str
    application: str
    agent: Callable[[], str]
    click: bool

    def steps(self) -> list[tuple[str, Step]]:
        """Return the steps in their order."""
        return [
            ("Register the vendor as a credential provider, and an API key", self.register),
            (f"Ask the agent for {USER}'s parcels: she has to consent first", self.consent),
            ("Ask again: the token is in her vault now", self.ask_again),
            ("The agent's own token (client credentials), and an API key", self.for_itself),
        ]

    def register(self) -> Iterator[str]:
        """Register both providers, and where users may come back to."""
        made = self.control.create_oauth2_credential_provider(
            name=VENDOR_PROVIDER,
            credentialProviderVendor="CustomOauth2",
            oauth2ProviderConfigInput={
                "customOauth2ProviderConfig": {
                    "oauthDiscovery": {"discoveryUrl": f"{self.vendor}/.well-known/openid-configuration"},
                    "clientId": CLIENT_ID,
                    "clientSecret": self.vendor_secret,
                }
            },
        )
        yield f"callback URL to register at the vendor: {made['callbackUrl']}"
        self.control.create_api_key_credential_provider(name=KEY_PROVIDER, apiKey="a-key-that-nobody-sees")
        self.control.update_workload_identity(
            name=self.agent().rpartition("/")[2], allowedResourceOauth2ReturnUrls=[f"{self.application}/return"]
        )
        yield f"users of this agent may come back to {self.application}/return alone"

    def consent(self) -> Iterator[str]:
        """Have the user consent, by hand or by script, while the agent waits."""
        links = 0
        for event in self._work("parcels"):
            if link := event.get("pleaseOpen"):
                links += 1
                if self.click:
                    yield from _clicked(link)
                else:
                    yield f"open this link in a browser and allow it: {link}"
            else:
                _require(event["parcelsOf"] == PERSON, "the token opens the account of who consented")
                yield f"the agent says {json.dumps(event)}"
        _require(links == 1, "the user is asked once")

    def ask_again(self) -> Iterator[str]:
        """Do the same task: nobody is asked."""
        (event,) = self._work("parcels")
        _require(event["parcelsOf"] == PERSON, "the vault holds the token")
        yield f"the agent says {json.dumps(event)}"

    def for_itself(self) -> Iterator[str]:
        """Do the tasks that need no user."""
        for task in ("depot", "weather"):
            (event,) = self._work(task)
            _require(event.get("status", 200) == 200, "the credential is good")
            yield f"the agent says {json.dumps(event)}"

    def _work(self, task: str) -> Iterator[dict[str, Any]]:
        response = self.data.invoke_agent_runtime(
            agentRuntimeArn=self.agent(), runtimeUserId=USER, payload=json.dumps({"task": task})
        )
        for line in response["response"].iter_lines(chunk_size=1):  # an event is shown when it comes, not with the next
            if line.startswith(b"data: "):
                event = json.loads(line.removeprefix(b"data: "))
                _require("error" not in event, f"the task ends well: {event}")
                yield event


def _clicked(link: str) -> Iterator[str]:
    """Click through the pages as a person would: the gateway's, the vendor's, and back to the application."""
    with httpx2.Client(trust_env=False, follow_redirects=False) as browser:
        response = browser.get(link)
        for _ in range(_CLICKS):
            yield f"{response.status_code} {response.url.copy_with(query=None)}"
            if response.is_redirect:
                response = browser.get(urljoin(str(response.url), response.headers["location"]))
            elif "<form" in response.text:
                form = {unescape(name): unescape(value) for name, value in _FIELD.findall(response.text)}
                target = re.search(r'<form[^>]*action="([^"]*)"', response.text)
                where = urljoin(str(response.url), unescape(target[1]) if target else "")
                origin = f"{response.url.scheme}://{response.url.netloc.decode()}"
                response = browser.post(where, data=form | {"decision": "allow"}, headers={"origin": origin})
            else:
                _require(response.status_code == 200, f"the walk ends well: {response.text}")
                return
    _require(held=False, what="the walk through the pages ends")


def _require(held: bool, what: str) -> None:
    if not held:
        message = f"expected that {what}"
        raise RuntimeError(message)
