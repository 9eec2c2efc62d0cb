"""Gateways in processes of their own, a vendor, and everybody who deals with them: agents, users, their application.

Calls go over sockets, with boto3 and one attempt each; `answer_of` says in one short text how a call was answered.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import httpx2
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.fakes.stamping import StampingVendor, returned_to
from tests.gateways import REGION, RunningGateway

AGENT, PROVIDER, KEY_PROVIDER = "agent", "drive", "weather"
RETURN_URL = "https://app.example/back"
API_KEY = "the-api-key-of-the-weather"
_MODELS = Path(__file__).parent.parent / "identity_gateway" / "models"


@contextlib.contextmanager
def gateway_with(environment: dict[str, str], **settings: str) -> Iterator[RunningGateway]:
    """Run a gateway with more in its environment than its own settings."""
    folder = Path(tempfile.mkdtemp(prefix="gateway-"))
    running = RunningGateway(folder, **settings)
    running.environment |= environment
    try:
        yield running.start()
    finally:
        running.kill()
        shutil.rmtree(folder, ignore_errors=True)


class Browser:
    """A user's browser: it keeps cookies and follows nothing by itself."""

    def __init__(self) -> None:
        self._cookies = httpx2.Cookies()

    def press(self, link: str) -> httpx2.Response:
        """Look at the link, and press Continue."""
        self.get(link)
        parts = urlsplit(link)
        return self._send("POST", link, {"origin": f"{parts.scheme}://{parts.netloc}"})

    def get(self, url: str) -> httpx2.Response:
        return self._send("GET", url, {})

    def _send(self, method: str, url: str, headers: dict[str, str]) -> httpx2.Response:
        with httpx2.Client(trust_env=False, timeout=60, cookies=self._cookies) as http:
            answer = http.request(method, url, headers=headers)
            self._cookies.update(http.cookies)
        return answer


@dataclass
class Session:
    """A consent under way: what the agent asked, the id of the session, and the URL that the vendor sends back to."""

    user: str
    asked: dict[str, Any]
    uri: str
    link: str
    callback: str = ""
    browser: Browser = field(default_factory=Browser)


@dataclass
class Estate:
    """One gateway as its users see it."""

    gateway: RunningGateway
    vendor: StampingVendor

    @cached_property
    def data(self) -> Any:
        return self.gateway.client("bedrock-agentcore", read_timeout=60, max_pool_connections=20)

    @cached_property
    def control(self) -> Any:
        return self.gateway.client("bedrock-agentcore-control", read_timeout=60)

    @cached_property
    def own(self) -> Any:
        """A client of the gateway's own operations."""
        session = boto3.session.Session()
        session._loader.search_paths.append(str(_MODELS))
        key_id, secret = self.gateway.root_key
        return session.client(
            "identity-gateway",
            endpoint_url=self.gateway.url,
            region_name=REGION,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
        )

    def prepare(self) -> None:
        """Register an agent, a provider and an API key."""
        self.control.create_workload_identity(name=AGENT, allowedResourceOauth2ReturnUrls=[RETURN_URL])
        self.control.create_oauth2_credential_provider(name=PROVIDER, **self.vendor.configuration("gateway"))
        self.control.create_api_key_credential_provider(name=KEY_PROVIDER, apiKey=API_KEY)

    def workload_token(self, user: str) -> str:
        made = self.data.get_workload_access_token_for_user_id(workloadName=AGENT, userId=user)
        return str(made["workloadAccessToken"])

    def asking(self, user: str, *, flow: str = "USER_FEDERATION", **more: Any) -> dict[str, Any]:
        """Return what the agent sends to ask for a token; its workload access token is minted now."""
        asked = {
            "workloadIdentityToken": self.workload_token(user),
            "resourceCredentialProviderName": PROVIDER,
            "scopes": ["read"],
            "oauth2Flow": flow,
        }
        return asked | ({"resourceOauth2ReturnUrl": RETURN_URL} if flow == "USER_FEDERATION" else {}) | more

    def ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.data.get_resource_oauth2_token(**asked)
        return answer

    def begin(self, user: str, **more: Any) -> Session:
        """Begin a consent."""
        asked = self.asking(user, **more)
        begun = self.ask(asked | {"forceAuthentication": True})
        return Session(user, asked, begun["sessionUri"], begun["authorizationUrl"])

    def agree(self, session: Session) -> Session:
        """Let the user press Continue and agree at the vendor."""
        pressed = session.browser.press(session.link)
        session.callback = returned_to(*self.vendor.agree(pressed.headers["location"], session.user))
        return session

    def come_back(self, session: Session) -> httpx2.Response:
        return session.browser.get(session.callback)

    def complete(self, session: Session) -> None:
        self.data.complete_resource_token_auth(sessionUri=session.uri, userIdentifier={"userId": session.user})

    def consent(self, user: str, **more: Any) -> dict[str, Any]:
        """Have a user consent; return what the agent asks with from now on."""
        session = self.agree(self.begin(user, **more))
        location = self.come_back(session).headers["location"]
        assert dict(parse_qsl(urlsplit(location).query))["session_id"] == session.uri
        self.complete(session)
        return session.asked


def answer_of(call: Callable[[], Any]) -> str:
    """Return how a call was answered: what it gave, or the status and the code of its refusal."""
    try:
        answer = call()
    except ClientError as error:
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
    except BotoCoreError as error:
        return error.__class__.__name__
    if isinstance(answer, httpx2.Response):
        return f"{answer.status_code}" + (" back" if "location" in answer.headers else " page")
    given = [
        name for name in ("accessToken", "apiKey", "authorizationUrl", "sessionStatus") if (answer or {}).get(name)
    ]
    return f"200 {given[0] if given else 'done'}"
