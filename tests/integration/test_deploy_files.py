"""What stands in `deploy/` agrees with the program: settings that exist, probes that answer, time to drain.

Docker, Kubernetes and systemd are not run here. `test_behind_nginx.py` runs the configuration of nginx.
"""

import configparser
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.api.public import OPEN_DOORS
from identity_gateway.settings import Settings

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: make install")

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
SETTINGS = {f"IDENTITY_GATEWAY_{name.upper()}" for name in Settings.model_fields}
KEEPS_IT_TO_ITSELF = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text()


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all(text_of(name)))


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def found_in(value: Any, name: str) -> Iterator[Any]:
    """Yield what stands under a name anywhere in a document."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if key == name:
            yield inner
        if isinstance(inner, dict | list):
            yield from found_in(inner, name)


def pod() -> dict[str, Any]:
    (deployment,) = (each for each in documents("kubernetes/gateway.yaml") if each["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]


def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # systemd minds case
    parser.read_string(text_of("identity-gateway.service"))
    return parser["Service"]


@pytest.mark.parametrize("file", [path for path in FILES if path.suffix == ".yaml"], ids=lambda path: path.name)
def test_every_yaml_file_holds_documents(file: Path):
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(file.read_text()))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_exists(file: Path):
    named = set(re.findall(r"IDENTITY_GATEWAY_[A-Z_]+", file.read_text()))
    assert {name.removesuffix("_FILE") if name not in SETTINGS else name for name in named} <= SETTINGS


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_every_probe_asks_an_open_door(file: Path):
    assert set(re.findall(r"/(?:healthz|readyz|livez|health|ready)\b", file.read_text())) <= OPEN_DOORS.keys()


def test_no_secret_is_written_in_the_kubernetes_file():
    plain = {entry["name"] for entry in pod()["containers"][0]["env"] if "value" in entry}
    assert plain.isdisjoint({f"IDENTITY_GATEWAY_{name.upper()}" for name in KEEPS_IT_TO_ITSELF})


def test_no_secret_is_written_in_the_compose_file():
    given = documents("compose.scale.yaml")[0]["services"]["gateway"]["environment"]
    secret = {f"IDENTITY_GATEWAY_{name.upper()}" for name in KEEPS_IT_TO_ITSELF - {"redis_url"}}
    assert given.keys().isdisjoint(secret)


def test_a_pod_has_more_time_than_draining_takes():
    given = {entry["name"]: entry.get("value") for entry in pod()["containers"][0]["env"]}
    draining = sum(float(given[f"IDENTITY_GATEWAY_{name}"]) for name in ("DRAIN_DELAY", "DRAIN_TIMEOUT"))
    assert pod()["terminationGracePeriodSeconds"] > draining


@pytest.mark.parametrize("name", ["compose.yaml", "compose.scale.yaml"])
def test_a_container_has_more_time_than_draining_takes(name: str):
    service = documents(name)[0]["services"]["gateway"]
    assert seconds(service["stop_grace_period"]) > float(service["environment"]["IDENTITY_GATEWAY_DRAIN_TIMEOUT"])


def test_a_service_has_more_time_than_draining_takes():
    (draining,) = re.findall(r"IDENTITY_GATEWAY_DRAIN_TIMEOUT=(\d+)", text_of("identity-gateway.service"))
    assert float(unit()["TimeoutStopSec"]) > float(draining)


def test_the_image_does_not_run_as_root():
    users = re.findall(r"^USER (\d+)", text_of("Dockerfile"), re.MULTILINE)
    assert users
    assert users[-1] != "0"


def test_the_image_installs_nothing_without_a_hash():
    installs = re.findall(r"pip install (.*)", text_of("Dockerfile"))
    assert all("--require-hashes" in line or line.startswith("--no-deps /wheel/") for line in installs)


def test_the_image_copies_only_what_its_context_lets_through():
    ignored = text_of("Dockerfile.dockerignore").split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text_of("Dockerfile"), re.MULTILINE)
    tops = {source.partition("/")[0] for line in copied for source in line.split()}
    assert tops == {name.removeprefix("!") for name in ignored if name.startswith("!")}


def test_the_unit_starts_a_command_that_the_project_installs():
    assert unit()["ExecStart"].endswith("/bin/identity-gateway serve")


def test_envoy_leaves_the_path_as_it_is():
    (manager,) = (each for each in found_in(documents("envoy.yaml"), "typed_config") if "route_config" in each)
    kept = {name: manager[name] for name in ("normalize_path", "merge_slashes", "path_with_escaped_slashes_action")}
    assert kept == {
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
    }


def test_envoy_sends_nothing_twice():
    assert "retry_policy" not in json.dumps(documents("envoy.yaml"))
