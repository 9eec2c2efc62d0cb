"""The rules of this tree, each as a test. A failure names the places and says why the rule stands."""

import ast
import importlib
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest
from botocore.loaders import Loader

ROOT = Path(__file__).parent.parent
OURS = "identity_gateway"

LAYERS = [
    {"errors", "model"},
    {"protocol"},
    {"records", "ephemeral", "sealing", "egress", "keysets", "catalog", "upstream", "telemetry", "spool"}
    | {"envelope", "key_encryption", "fingerprints", "external_secrets", "server_metadata", "aws_clients"}
    | {"identity_providers"},
    {
        "runtimes",
        "tags",
        "workload",
        "access_keys",
        "temporary_credentials",
        "roles",
        "resource_policies",
        "authorization",
        "inbound",
        "admission",
        "invocation",
        "audit",
        "sessions",
        "vault",
        "refresh",
    }
    | {"consent", "outbound", "credential_providers", "idempotency", "paging", "authorization_server"}
    | {"token_vault", "grants", "signals", "key_signing", "keepalive"}
    | {"security_tokens", "web_identity", "caller_identity"},
    {"api"},
    {"app", "settings", "cli", "__main__", "demo", "server"},
]
LAYER_OF = {name: level for level, names in enumerate(LAYERS) for name in names} | {"": 0}

NOT_IN_PROTOCOL = {
    "asyncio": "verification is a function of values: nothing in protocol/ waits",
    "os": "only settings reads the environment",
    "time": "the caller passes `now`",
    "socket": "network access belongs to egress and upstream",
    "secrets": "randomness is an argument, so that every vector can be replayed",
    "random": "randomness is an argument, and `random` is not fit for secrets anyway",
    "logging": "an error carries its `reason`; the caller logs it",
    "structlog": "an error carries its `reason`; the caller logs it",
    "httpx2": "network access belongs to egress",
    "redis": "shared state belongs to ephemeral/",
    "sqlalchemy": "durable state belongs to records/",
    "fastapi": "HTTP frameworks belong to api/",
    "starlette": "HTTP frameworks belong to api/",
    "pathlib": "files are read at the edges; only botocore loads its own models",
}
IMPURE_CALLS = {"now", "utcnow", "today", "open"}

SETTINGS_READERS = {"app", "cli", "__main__", "demo", "server", "settings"}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv"}
ENVIRONMENT_READERS = {"settings", "cli", "demo"}
NETWORK_MODULES = {"httpx2", "httpcore2", "socket", "urllib.request", "http.client", "requests", "aiohttp"}
NETWORK_CALLS = {"open_connection", "create_connection", "open_unix_connection"}
NETWORK_USERS = {"egress", "upstream", "ephemeral", "records", "demo"}

EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "core", "base", "manager", "handler", "misc"}
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b|pass  *# *st" + "ub")
LOCAL_ONLY = re.compile(
    r"/(wo" + r"rk|ro" + r"ot)/|\b(py" + r"pi\.org|python" + r"hosted\.org|npm" + r"js\.(org|com)|deb\.deb" + r"ian)\b"
)
# Identity providers that are not among the vendors of the AWS model, and vendors whose name is an ordinary word.
MORE_VENDORS = {"entra", "azure", "cognito", "auth0", "keycloak", "okta"}
ORDINARY_WORDS = {"custom", "generic", "x", "notion", "box", "linear", "square", "monday", "front"}
ROUTERS = {"api", "app", "server"}
ROUTE_DECORATORS = {"get", "post", "put", "patch", "delete", "head", "options", "websocket", "api_route", "route"}
ROUTE_CALLS = {"add_api_route", "add_route", "add_api_websocket_route", "mount", "Route", "WebSocketRoute", "Mount"}


@dataclass(frozen=True)
class Module:
    """One source file of the product, parsed. `top` is its first name below the package: `protocol`, `vault`."""

    name: str
    top: str
    path: Path
    text: str
    tree: ast.Module

    def at(self, node: ast.AST, what: str) -> str:
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {what}"


def top(name: str) -> str:
    return name.partition(".")[2].partition(".")[0]


def parse(path: Path) -> Module:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return Module(name, top(name), path, text := path.read_text(), ast.parse(text))


def imported(node: ast.AST) -> list[str]:
    """Return every imported name in full: `from a import b` is `a.b`, which may be a module or not."""
    if isinstance(node, ast.ImportFrom):
        source = "." * node.level + (node.module or "")
        return [f"{source}.{alias.name}" for alias in node.names]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def called(call: ast.Call) -> str:
    """Return the last name of what is called: `now` for datetime.now()."""
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def stands_in(name: str, modules: Iterable[str]) -> str | None:
    """Return which of these modules an imported name belongs to."""
    return next((found for found in modules if name == found or name.startswith(f"{found}.")), None)


def refuse(found: list[str], why: str) -> None:
    assert not found, "\n".join([why, *found])


MODULES = {module.name: module for module in map(parse, sorted((ROOT / OURS).rglob("*.py")))}
NODES = [(module, node) for module in MODULES.values() for node in ast.walk(module.tree)]
CALLS = [(module, node, called(node)) for module, node in NODES if isinstance(node, ast.Call)]
IMPORTS = [(module, node, name) for module, node in NODES for name in imported(node)]
OWN_IMPORTS = [
    (module, node, name if name in MODULES else name.rpartition(".")[0])
    for module, node, name in IMPORTS
    if stands_in(name, {OURS})
]


def test_every_module_has_a_layer() -> None:
    found = [m.at(m.tree, "say in which layer it stands") for m in MODULES.values() if m.top not in LAYER_OF]
    refuse(found, "LAYERS in this file lists every top-level module, because a reader should know its neighbours.")


def test_modules_import_their_own_layer_or_below() -> None:
    found = [
        m.at(node, f"{m.top} (layer {LAYER_OF[m.top]}) imports {name} (layer {LAYER_OF[top(name)]})")
        for m, node, name in OWN_IMPORTS
        if LAYER_OF.get(top(name), 0) > LAYER_OF.get(m.top, len(LAYERS))
    ]
    refuse(found, "A lower layer that knows a higher one cannot be read, tested or replaced without it.")


def test_imports_name_the_whole_module() -> None:
    found = [m.at(node, name) for m, node, name in IMPORTS if name.startswith(".")]
    refuse(found, "Imports are absolute: a module can be moved and searched for by its name.")


def test_imports_have_no_cycle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for module, _, name in OWN_IMPORTS:
        graph[module.name] |= {name} - {module.name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("Modules in a circle are one module in disguise: " + " <- ".join(error.args[1]))


def test_protocol_imports_nothing_that_acts() -> None:
    found = [
        m.at(node, f"{banned}: {NOT_IN_PROTOCOL[banned]}")
        for m, node, name in IMPORTS
        if m.top == "protocol" and (banned := stands_in(name, NOT_IN_PROTOCOL))
    ]
    refuse(found, "protocol/ is values in, values or errors out.")


def test_protocol_reads_no_clock_and_no_file() -> None:
    found = [m.at(call, f"{name}()") for m, call, name in CALLS if m.top == "protocol" and name in IMPURE_CALLS]
    refuse(
        found, "The time is an argument: a verification that reads the clock cannot be replayed or tested at an edge."
    )


def test_protocol_waits_for_nothing() -> None:
    found = [m.at(n, n.name) for m, n in NODES if m.top == "protocol" and isinstance(n, ast.AsyncFunctionDef)]
    refuse(found, "Verification is a function of values: what it needs was fetched before.")


def test_settings_are_imported_by_the_wiring_only() -> None:
    found = [m.at(n, name) for m, n, name in OWN_IMPORTS if top(name) == "settings" and m.top not in SETTINGS_READERS]
    refuse(found, "app passes each part the few values it needs, so that a part shows what it depends on.")


def test_the_environment_is_read_by_settings_only() -> None:
    found = [
        m.at(node, ast.unparse(node))
        for m, node in NODES
        if (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT)
        or any(name.removeprefix("os.") in ENVIRONMENT for name in imported(node))
        if m.top not in ENVIRONMENT_READERS
    ]
    why = "One place reads the environment, or nobody can list what changes the gateway's behaviour. "
    refuse(found, why + "(cli and demo may: they set it for the processes that they start.)")


def test_the_network_is_reached_in_two_places_only() -> None:
    uses = [(m, node, name) for m, node, name in IMPORTS if stands_in(name, NETWORK_MODULES)]
    uses += [(m, call, name) for m, call, name in CALLS if name in NETWORK_CALLS]
    found = [m.at(node, name) for m, node, name in uses if m.top not in NETWORK_USERS]
    refuse(found, "Calls leave through egress (it checks addresses) or upstream (agents); drivers reach state.")


def test_modules_are_named_for_what_they_hold() -> None:
    found = [m.name for m in MODULES.values() if EMPTY_NAMES & set(re.split(r"[._]", m.name))]
    refuse(found, "Names come from the RFCs and the AWS API; these say nothing, and such modules collect everything.")


def test_modules_fit_in_400_lines() -> None:
    found = [f"{m.name}: {lines} lines" for m in MODULES.values() if (lines := len(m.text.splitlines())) > 400]
    refuse(found, "A longer module holds more than one concept: make it a package with the same import name.")


def test_functions_fit_in_60_lines() -> None:
    found = [
        m.at(node, f"{node.name}: {lines} lines")
        for m, node in NODES
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > 60
    ]
    refuse(found, "A function is read at once, or it is not reviewed.")


def test_nothing_is_left_unfinished() -> None:
    files = [*(ROOT / OURS).rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "tests" / "node").glob("*.mjs")]
    refuse(
        grep(files, UNFINISHED), "An unfinished place is a hole with a label. Finish it, or leave it out and say so."
    )


def test_tracked_files_name_no_machine_and_no_registry() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("the list of tracked files is git's: git clone the project")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
    refuse(
        grep(files, LOCAL_ONLY), "Paths of one machine work nowhere else; which registry to use is the user's choice."
    )


def grep(files: list[Path], pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in files
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_code_names_no_vendor() -> None:
    names, prose = vendors(), docstrings()
    found = [
        m.at(node, f"{text!r} names {', '.join(sorted(hits))}")
        for m, node in NODES
        if id(node) not in prose
        for text in ([m.name] if node is m.tree else said(node))
        if (hits := names & spoken(text))
    ]
    refuse(found, "A vendor is data: one file in providers/. What needs code is a capability that any may declare.")


def vendors() -> set[str]:
    model = Loader().load_service_model("bedrock-agentcore-control", "service-2")
    listed = {name.removesuffix("Oauth2").lower() for name in model["shapes"]["CredentialProviderVendorType"]["enum"]}
    described = {path.stem for path in (ROOT / "providers").rglob("*.toml")}
    return (listed | described | MORE_VENDORS) - ORDINARY_WORDS


def docstrings() -> set[int]:
    """Return the nodes that are prose: strings that stand alone as a statement. (Comments are not nodes.)"""
    return {id(node.value) for _, node in NODES if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}


def said(node: ast.AST) -> list[str]:
    """Return the names and the string that stand in one node."""
    parts = (getattr(node, field, None) for field in ("value", "id", "attr", "name", "arg", "asname", "module"))
    return [part for part in parts if isinstance(part, str)]


def spoken(text: str) -> set[str]:
    """Return the words of a name or text, and each two neighbours as one (`PingOne` is a vendor in two words)."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])", text)]
    return {*words, *(a + b for a, b in pairwise(words)), *re.findall(r"[a-z0-9]+", text.lower())}


def test_every_pinned_requirement_has_a_hash() -> None:
    found = [
        f"{path.name}: {line.split()[0]}"
        for path in (ROOT / "requirements").glob("*.txt")
        for line in re.sub(r"\\\n", " ", path.read_text()).splitlines()
        if line.strip() and not line.lstrip().startswith("#")
        if "==" not in line or "--hash=sha256:" not in line
    ]
    refuse(found, "A pin without a hash trusts whoever answers for the name on the day of the install.")


def test_every_dependency_says_why_it_is_there() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {dependency for dependencies in lists for dependency in dependencies}
    found, explained = [], False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("#") or line.endswith("["):
            explained = line.startswith("#")
        elif line.strip('",') in wanted and not explained:
            found.append(line)
    refuse(found, "A comment above a dependency, or above its group, says what would be lost without it.")


def test_readme_lists_the_operations_that_are_served() -> None:
    table = re.search(r"<!-- operations -->(.*?)<!-- /operations -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert table, "README.md needs the table of operations, between <!-- operations --> and <!-- /operations -->."
    listed = set(re.findall(r"`([A-Z]\w+)`", table[1]))
    served = set(importlib.import_module(f"{OURS}.api.operations").SERVED)
    found = [f"not in README.md: {name}" for name in served - listed]
    found += [f"not served: {name}" for name in listed - served]
    refuse(found, "README.md promises exactly what api/operations.py serves.")


def test_every_setting_is_documented() -> None:
    page = ROOT / "docs" / "reference" / "settings.md"
    text = page.read_text() if page.exists() else ""
    fields = importlib.import_module(f"{OURS}.settings").Settings.model_fields
    found = [name for field in fields if not re.search(rf"\b{(name := f'IDENTITY_GATEWAY_{field.upper()}')}\b", text)]
    refuse(found, "docs/reference/settings.md names every setting: one that nobody can look up is set by accident.")


def test_every_fastapi_route_is_a_declared_open_door() -> None:
    doors = set(importlib.import_module(f"{OURS}.api.public").OPEN_DOORS)
    opened = [(m, call, door(call)) for m, call in route_calls() if m.top in ROUTERS]
    assert opened, "No FastAPI route was found, so this test would watch nothing: say here how routes are declared."
    found = [m.at(call, path) for m, call, path in opened if path not in doors]
    refuse(found, "FastAPI routes ask for no credentials; OPEN_DOORS in api/public.py is the whole list of such doors.")


def route_calls() -> Iterator[tuple[Module, ast.Call]]:
    """Yield the calls that open a path: route decorators, route objects, and FastAPI() with its own schema pages."""
    for m, node in NODES:
        for decorator in getattr(node, "decorator_list", []):
            if isinstance(decorator, ast.Call) and called(decorator) in ROUTE_DECORATORS:
                yield m, decorator
    for m, call, name in CALLS:
        if name in ROUTE_CALLS or (name == "FastAPI" and "openapi_url=None" not in ast.unparse(call)):
            yield m, call


def door(call: ast.Call) -> str:
    """Return the path that a call opens. One that is not written in place is not declared."""
    if called(call) == "FastAPI":
        return "/openapi.json, unless FastAPI() says openapi_url=None"
    literal = call.args and isinstance(call.args[0], ast.Constant)
    return str(ast.literal_eval(call.args[0])) if literal else f"path not written in place: {ast.unparse(call)}"
