"""Every setting: its name, type, default and check. The only reader of the environment.

A setting comes, in this order, from the command line, from the environment (`IDENTITY_GATEWAY_` and the name in
capitals; with `_FILE` at the end, from the file named there), from the TOML file that `IDENTITY_GATEWAY_CONFIG` names
(the same names in lower case), or from its default. Unknown names are errors. No setting turns a check off.
"""

import base64
import os
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from identity_gateway.egress import Egress

PREFIX = "IDENTITY_GATEWAY_"
CONFIG = PREFIX + "CONFIG"

# It stands in headers and in documents that anybody may read.
_BASE_URL = re.compile(
    r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?(?:/(?:[a-z0-9._~!$&()*+,;=:@/-]|%[0-9a-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)

_HOST = re.compile(r"\[[0-9a-f:.]+\]|[a-z0-9._-]+", re.ASCII)


class SettingsError(Exception):
    """A setting is unknown or refused. The text names the setting, never its value."""


class _FileSource(PydanticBaseSettingsSource):
    """Read `NAME_FILE`: a secret mounted as a file stays out of the process's environment."""

    def __call__(self) -> dict[str, Any]:
        """Return the content of every file that stands for a setting."""
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of the file that stands for this setting, or None."""
        del field
        name = f"{PREFIX}{field_name.upper()}_FILE"
        path = os.environ.get(name)
        if path is None:
            return None, field_name, False
        try:
            content = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            message = f"{name} cannot be read: {error.__class__.__name__}"
            raise SettingsError(message) from None
        if not content:  # a secret that was not mounted: the default would be another database, or no token
            message = f"{name} names a file that is empty"
            raise SettingsError(message)
        return content, field_name, False


class Settings(BaseSettings):
    """What an operator may choose. What an administrator changes at run time is a record, not a setting."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    # Listening
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str = ""
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None

    # Identity of this deployment: the account and region that its ARNs carry
    account_id: str = Field(default="000000000000", pattern=r"^[0-9]{12}$")
    region: str = Field(default="us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+$")

    # State
    data_dir: Path = Path("data")
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None

    # Keys
    master_key: SecretStr | None = None
    root_access_key_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{3,128}$")
    root_secret_access_key: SecretStr | None = None
    signature_max_skew: int = Field(default=300, ge=1, le=900)
    signed_hosts: Annotated[tuple[str, ...], NoDecode] = ()

    # The token vault: which key wraps what it keeps, unless SetTokenVaultCMK says otherwise; and where AWS is
    key_provider: Literal["local", "transit"] = "local"
    transit_address: str | None = None
    transit_key: str | None = None
    transit_token: SecretStr | None = None
    transit_token_path: Path | None = None
    transit_namespace: str = ""
    kms_endpoint_url: str | None = None
    secrets_manager_endpoint_url: str | None = None
    sts_endpoint_url: str | None = Field(default=None, pattern=r"^http://(127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?$")

    # Vendors: a folder of descriptors of one's own, beside those that came along
    providers_dir: Path | None = None

    # Ways out: key sets and vendors, and the agents
    egress_allow: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    egress_ca_file: Path | None = None
    agent_ca_file: Path | None = None
    agent_max_connections: int = Field(default=100, ge=1, le=10_000)
    agent_max_web_sockets: int = Field(default=10_000, ge=1, le=100_000)

    # Sessions of agents: whether one that a user opened is refused to others
    session_binding: Literal["user", "none"] = "user"

    # Timeouts, in seconds
    agent_connect_timeout: float = Field(default=10, gt=0, le=120)
    agent_sync_timeout: float = Field(default=900, gt=0, le=900)
    agent_stream_timeout: float = Field(default=3600, gt=0, le=3600)
    agent_web_socket_idle: float = Field(default=900, gt=0, le=3600)
    request_head_timeout: float = Field(default=30, gt=0, le=300)
    drain_delay: float = Field(default=0, ge=0, le=300)
    drain_timeout: int = Field(default=30, ge=0, le=3600)

    # Limits
    spooled_bodies: int = Field(default=64, ge=1, le=10_000)

    # Telemetry
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"
    metrics_token: SecretStr | None = None
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    audit_retention_days: int = Field(default=90, ge=1)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources; there is no `.env` file and no secrets folder."""
        del dotenv_settings, file_secret_settings
        sources = [init_settings, env_settings, _FileSource(settings_cls)]
        if config := os.environ.get(CONFIG):
            if not Path(config).is_file():
                message = f"{CONFIG} names a file that does not exist"
                raise SettingsError(message)
            sources.append(TomlConfigSettingsSource(settings_cls, Path(config)))
        return tuple(sources)

    @field_validator("signed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: Any) -> Any:
        names = tuple(part.strip().lower() for part in value.split(",")) if isinstance(value, str) and value else value
        if isinstance(names, tuple) and not all(_HOST.fullmatch(str(name)) for name in names):
            message = "must be host names without ports, separated by commas, like agents.example.com"
            raise ValueError(message)
        return names or ()

    @field_validator("egress_allow", mode="before")
    @classmethod
    def _split_networks(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            message = "must be networks separated by commas, like 10.0.0.0/8"
            raise ValueError(message) from None

    @field_validator("egress_allow")
    @classmethod
    def _may_be_allowed(cls, value: Any) -> Any:
        try:
            Egress(value)
        except ValueError:
            message = "must not hold link-local, multicast and metadata addresses: they are never reached"
            raise ValueError(message) from None
        return value

    @field_validator("public_url")
    @classmethod
    def _is_base_url(cls, value: str) -> str:
        if value and not _BASE_URL.fullmatch(value):
            message = "must be an http(s) URL without user information, query and fragment"
            raise ValueError(message)
        return value.rstrip("/")

    @field_validator("database_url", "redis_url", "master_key", "metrics_token", "transit_token")
    @classmethod
    def _is_not_empty(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            message = "must not be empty"
            raise ValueError(message)
        return value

    @field_validator("root_secret_access_key")
    @classmethod
    def _is_long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 8:
            message = "must have at least 8 characters"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _pairs_are_whole(self) -> "Settings":
        if (self.root_access_key_id is None) != (self.root_secret_access_key is None):
            message = "root_access_key_id and root_secret_access_key must be given together"
            raise ValueError(message)
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            message = "tls_cert_file and tls_key_file must be given together"
            raise ValueError(message)
        if self.transit_address is not None and (self.transit_token is None) == (self.transit_token_path is None):
            message = "transit_address needs either transit_token or transit_token_path"
            raise ValueError(message)
        if self.key_provider == "transit" and (self.transit_address is None or self.transit_key is None):
            message = "key_provider transit needs transit_address and transit_key"
            raise ValueError(message)
        self.master_keys()
        return self

    @property
    def base_url(self) -> str:
        """The URL that callers use, without a slash at the end."""
        scheme = "https" if self.tls_cert_file else "http"
        host = "127.0.0.1" if self.host in {"", "0.0.0.0", "::"} else self.host  # noqa: S104 - read, not bound
        return self.public_url or f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def master_keys(self) -> tuple[bytes, ...]:
        """Return the master keys (32 bytes each) that were given: the first seals, all of them open."""
        if self.master_key is None:
            return ()
        try:
            keys = tuple(
                base64.b64decode(part.strip(), altchars=b"-_", validate=True)
                for part in self.master_key.get_secret_value().replace("+", "-").replace("/", "_").split(",")
            )
        except ValueError:
            keys = (b"",)
        if any(len(key) != 32 for key in keys):
            message = "master_key must be 32 bytes in base64, or several of them separated by commas"
            raise ValueError(message)
        return keys


def load(**given: Any) -> Settings:
    """Read the settings; what is `given` (from the command line) comes first. Raises SettingsError."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {name + "_FILE" for name in known} | {CONFIG}
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError("unknown setting: " + ", ".join(unknown))
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except (ValueError, OSError) as error:
        raise SettingsError(_describe(error)) from None


def _describe(error: Exception) -> str:
    """Say which setting was refused and why, without its value."""
    faults = getattr(error, "errors", None)
    if faults is None:
        return f"the settings cannot be read: {error.__class__.__name__}"
    lines = []
    for fault in faults(include_input=False, include_url=False, include_context=False):
        name = "_".join(str(part) for part in fault["loc"][:1])
        lines.append(f"{PREFIX}{name.upper()}: {fault['msg']}" if name else str(fault["msg"]))
    return "; ".join(lines)


def to_environment(**given: Any) -> dict[str, str]:
    """Return what a child process must find in its environment to be given these settings, too."""
    return {PREFIX + name.upper(): str(value) for name, value in given.items() if value is not None}
