"""Settings: where they come from, which comes first, and what is refused without repeating its value."""

import base64
import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from identity_gateway.settings import PREFIX, Settings, SettingsError, load, to_environment

SECRET = "hunter2-is-not-to-be-shown"
KEY, OTHER_KEY = bytes(range(32)), bytes(range(200, 232))


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.lower().startswith(PREFIX.lower())]:
        monkeypatch.delenv(name)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch):
    """Return a function that sets settings in the environment."""

    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(PREFIX + name, value)

    return set_all


@pytest.fixture
def toml(tmp_path: Path, given):
    """Return a function that writes the configuration file and names it in the environment."""

    def write(text: str | bytes) -> None:
        path = tmp_path / "gateway.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        given(CONFIG=str(path))

    return write


def refusal(**options: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(**options)
    return str(caught.value)


def base64_of(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


# --- Refused ---


def test_an_unknown_name_in_the_environment_is_an_error_that_names_it(given):
    given(PROT="8080", DATA_DIRECTORY=SECRET)
    assert refusal() == "unknown setting: IDENTITY_GATEWAY_DATA_DIRECTORY, IDENTITY_GATEWAY_PROT"


@pytest.mark.parametrize("name", ["PORT_FIL", "NOT_A_SETTING_FILE", "CONFIG_FILE", "Port", ""])
def test_a_name_that_is_almost_a_setting_is_unknown(given, name: str):
    given(**{name: "1"})
    assert refusal() == f"unknown setting: {PREFIX}{name}"


def test_an_unknown_name_in_the_file_is_an_error_that_names_it(toml):
    toml(f'prot = "{SECRET}"')
    text = refusal()
    assert "PROT" in text
    assert SECRET not in text


def test_a_table_in_the_file_is_unknown_too(toml):
    toml(f'[secrets]\nmaster_key = "{SECRET}"')
    text = refusal()
    assert "SECRETS" in text
    assert SECRET not in text


def test_an_unknown_option_is_an_error():
    assert "PROT" in refusal(prot=8080)


REFUSED = {
    "HOST_FILE": "does-not-exist",
    "PORT": "eighty",
    "ACCOUNT_ID": "12345678901",
    "REGION": "US-EAST-1",
    "MASTER_KEY": SECRET,
    "ROOT_ACCESS_KEY_ID": "no blanks",
    "SIGNATURE_MAX_SKEW": "901",
    "SIGNED_HOSTS": "agents.example.com:8080",
    "EGRESS_ALLOW": "10.0.0.0/33",
    "AGENT_MAX_CONNECTIONS": "-7",
    "AGENT_CONNECT_TIMEOUT": "-5.5",
    "AGENT_SYNC_TIMEOUT": "901",
    "AGENT_STREAM_TIMEOUT": "3601",
    "REQUEST_HEAD_TIMEOUT": "inf",
    "DRAIN_DELAY": "-5.5",
    "DRAIN_TIMEOUT": "3601",
    "SPOOLED_BODIES": "-9",
    "LOG_LEVEL": "verbose",
    "LOG_FORMAT": "xml",
    "METRICS_PORT": "-3",
    "AUDIT_RETENTION_DAYS": "-8",
    "PUBLIC_URL": "ftp://gateway.test",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_is_refused_is_named_and_not_repeated(given, name: str):
    given(**{name: REFUSED[name]})
    text = refusal()
    assert name.removesuffix("_FILE").lower() in text.lower()
    assert REFUSED[name] not in text


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_no_error_repeats_a_value_whatever_the_setting(given, name: str):
    given(**{"PORT": SECRET, name: SECRET})
    assert SECRET not in refusal()


@pytest.mark.parametrize("source", ["environment", "named file", "configuration"])
@pytest.mark.parametrize("name", ["MASTER_KEY", "ROOT_SECRET_ACCESS_KEY"])
def test_no_error_repeats_a_secret_whatever_its_source(given, toml, tmp_path: Path, source: str, name: str):
    if source == "environment":
        given(**{name: SECRET})
    elif source == "named file":
        (tmp_path / "secret").write_text(SECRET)
        given(**{name + "_FILE": str(tmp_path / "secret")})
    else:
        toml(f'{name.lower()} = "{SECRET}"')
    assert SECRET not in refusal()


def test_settings_that_are_refused_where_they_are_made_do_not_repeat_a_secret():
    with pytest.raises(ValueError, match="together") as caught:
        Settings(root_access_key_id="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("half", ["ROOT_ACCESS_KEY_ID", "ROOT_SECRET_ACCESS_KEY", "TLS_CERT_FILE", "TLS_KEY_FILE"])
def test_half_of_a_pair_is_refused(given, half: str):
    given(**{half: "long-enough"})
    assert "must be given together" in refusal()


def test_a_root_secret_that_is_short_is_refused(given):
    given(ROOT_ACCESS_KEY_ID="root", ROOT_SECRET_ACCESS_KEY="seven77")
    assert "ROOT_SECRET_ACCESS_KEY: Value error, must have at least 8 characters" in refusal()


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "MASTER_KEY", "METRICS_TOKEN"])
def test_a_secret_that_is_empty_in_the_file_is_refused(toml, name: str):
    toml(f'{name.lower()} = ""')
    assert f"{PREFIX}{name}: Value error, must not be empty" in refusal()


@pytest.mark.parametrize(
    "value",
    [
        base64_of(KEY[:31]),
        base64_of(KEY + b"x"),
        base64_of(KEY)[:-1],
        base64_of(KEY) + ",",
        "," + base64_of(KEY),
        base64_of(KEY, OTHER_KEY[:16]),
        "!" + base64_of(KEY)[1:],
        KEY.hex(),
        "é" * 44,
    ],
)
def test_a_master_key_that_is_not_32_bytes_in_base64_is_refused(given, value: str):
    given(MASTER_KEY=value)
    text = refusal()
    assert "master_key must be 32 bytes in base64" in text
    assert value not in text


@pytest.mark.parametrize(
    "value",
    [
        "gateway.test",
        "//gateway.test",
        "ftp://gateway.test",
        "https://",
        "https:///path",
        "https://:443",
        "https://[::1",
        "https://gateway.test?a=b",
        "https://gateway.test/#top",
        "https://user:hunter2@gateway.test",
        'https://gateway.test/"',
        "https://gateway.test/a b",
        "https://gateway.test\n.evil.test",
        "https://gateway.test/\\",
        "https://gätewäy.test",
    ],
)
def test_a_public_url_that_is_not_a_plain_http_url_is_refused(given, value: str):
    given(PUBLIC_URL=value)
    text = refusal()
    assert "PUBLIC_URL" in text
    assert value not in text


@pytest.mark.parametrize("value", ["10.0.0.1/8", "localhost", "10.0.0.0/8;127.0.0.0/8", "300.0.0.0/8", SECRET])
def test_an_egress_network_that_is_none_is_refused(given, value: str):
    given(EGRESS_ALLOW=value)
    text = refusal()
    assert "EGRESS_ALLOW" in text
    assert value not in text


@pytest.mark.parametrize("value", ["169.254.0.0/16", "10.0.0.0/8,169.254.169.254", "224.0.0.1", "fe80::/64"])
def test_an_egress_network_that_is_never_reached_is_refused(given, value: str):
    given(EGRESS_ALLOW=value)
    assert "EGRESS_ALLOW: Value error, must not hold link-local" in refusal()


def test_a_file_that_does_not_exist_is_named_by_its_setting(given, tmp_path: Path):
    given(MASTER_KEY_FILE=str(tmp_path / SECRET))
    assert refusal() == "IDENTITY_GATEWAY_MASTER_KEY_FILE cannot be read: FileNotFoundError"


def test_a_file_that_is_not_text_is_refused(given, tmp_path: Path):
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    given(MASTER_KEY_FILE=str(tmp_path / "key"))
    assert refusal() == "IDENTITY_GATEWAY_MASTER_KEY_FILE cannot be read: UnicodeDecodeError"


@pytest.mark.parametrize("name", ["DATABASE_URL", "METRICS_TOKEN", "MASTER_KEY", "REDIS_URL"])
def test_a_file_that_is_empty_is_refused(given, tmp_path: Path, name: str):
    (tmp_path / "secret").write_text("\n")
    given(**{name + "_FILE": str(tmp_path / "secret")})
    assert refusal() == f"{PREFIX}{name}_FILE names a file that is empty"


def test_a_configuration_file_that_does_not_exist_is_refused(given, tmp_path: Path):
    given(CONFIG=str(tmp_path / "nowhere.toml"))
    assert refusal() == "IDENTITY_GATEWAY_CONFIG names a file that does not exist"


@pytest.mark.parametrize("text", [f'master_key = "{SECRET}', b"\xff\xfe", f"port = {SECRET}"])
def test_a_configuration_file_that_is_not_toml_is_refused_without_repeating_it(toml, text: str | bytes):
    toml(text)
    text = refusal()
    assert "cannot be read" in text
    assert SECRET not in text


# --- Taken ---


def test_without_anything_given_the_defaults_hold():
    loaded = load()
    assert (loaded.host, loaded.port, loaded.account_id, loaded.region) == (
        "127.0.0.1",
        8080,
        "000000000000",
        "us-east-1",
    )
    assert (loaded.egress_allow, loaded.master_keys(), loaded.metrics_token) == ((), (), None)


def test_the_command_line_comes_before_the_environment_before_a_named_file_before_the_configuration(
    given, toml, tmp_path: Path
):
    names = ["public_url", "region", "host", "log_level"]
    urls = dict.fromkeys(names, "http://toml") | {"region": "eu-toml-1", "log_level": "error"}
    toml("".join(f'{name} = "{value}"\n' for name, value in urls.items()))
    for name, content in {"public_url": "http://file", "region": "eu-file-1", "host": "file"}.items():
        (tmp_path / name).write_text(content)
        given(**{f"{name.upper()}_FILE": str(tmp_path / name)})
    given(PUBLIC_URL="http://environment", REGION="eu-environment-1")
    loaded = load(public_url="http://option", region=None)
    assert [getattr(loaded, name) for name in names] == ["http://option", "eu-environment-1", "file", "error"]


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "MASTER_KEY", "PORT", "HOST"])
def test_a_setting_that_is_empty_in_the_environment_does_not_pass_for_one_that_is_not_given(given, name: str):
    given(**{name: ""})
    assert name in refusal()


def test_a_secret_file_is_read_without_the_line_end(given, tmp_path: Path):
    (tmp_path / "token").write_text("s3cret-token\n")
    given(METRICS_TOKEN_FILE=str(tmp_path / "token"))
    token = load().metrics_token
    assert token is not None
    assert token.get_secret_value() == "s3cret-token"


def test_the_configuration_file_gives_every_kind_of_value(toml):
    toml('port = 9000\negress_allow = ["10.0.0.0/8", "fd00::/8"]\nagent_connect_timeout = 1.5\ndata_dir = "/d"')
    loaded = load()
    assert (loaded.port, loaded.agent_connect_timeout, loaded.data_dir) == (9000, 1.5, Path("/d"))
    assert loaded.egress_allow == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("127.0.0.0/8", ["127.0.0.0/8"]),
        (" 10.0.0.0/8 , fd00::/8,192.0.2.7 ,", ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]),
        (",", []),
    ],
)
def test_egress_networks_are_separated_by_commas(given, text: str, networks: list[str]):
    given(EGRESS_ALLOW=text)
    assert load().egress_allow == tuple(map(ip_network, networks))


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("Agents.Example.com", ("agents.example.com",)),
        ("a.test, [::1] ,127.0.0.1", ("a.test", "[::1]", "127.0.0.1")),
        ("", ()),
    ],
)
def test_signed_hosts_are_separated_by_commas(given, text: str, hosts: tuple[str, ...]):
    given(SIGNED_HOSTS=text)
    assert load().signed_hosts == hosts


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (base64_of(KEY), (KEY,)),
        (base64_of(OTHER_KEY), (OTHER_KEY,)),
        (base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode(), (b"\xfb\xff" * 16,)),
        (base64.b64encode(b"\xfb\xff" * 16).decode(), (b"\xfb\xff" * 16,)),
        (f"{base64_of(KEY)} , {base64_of(OTHER_KEY)}", (KEY, OTHER_KEY)),
    ],
)
def test_master_keys_are_base64_of_either_alphabet_the_first_one_first(given, text: str, keys: tuple[bytes, ...]):
    given(MASTER_KEY=text)
    assert load().master_keys() == keys


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"host": "0.0.0.0", "port": 80}, "http://127.0.0.1:80"),
        ({"host": "::"}, "http://127.0.0.1:8080"),
        ({"host": "::1"}, "http://[::1]:8080"),
        ({"tls_cert_file": "c.pem", "tls_key_file": "k.pem"}, "https://127.0.0.1:8080"),
        ({"public_url": "https://gateway.test/"}, "https://gateway.test"),
        ({"public_url": "https://gateway.test:8443/a%20b/~c/"}, "https://gateway.test:8443/a%20b/~c"),
        ({"public_url": "http://[2001:db8::1]:80"}, "http://[2001:db8::1]:80"),
    ],
)
def test_the_base_url_is_the_public_one_or_where_the_gateway_listens(options: dict, url: str):
    assert load(**options).base_url == url


def test_settings_do_not_show_their_secrets(given):
    given(MASTER_KEY=base64_of(KEY), METRICS_TOKEN=SECRET, DATABASE_URL=f"postgresql://u:{SECRET}@db/x")
    given(ROOT_ACCESS_KEY_ID="root", ROOT_SECRET_ACCESS_KEY=SECRET, REDIS_URL=f"redis://:{SECRET}@r/0")
    loaded = load()
    for shown in (repr(loaded), str(loaded), str(loaded.model_dump()), loaded.model_dump_json()):
        assert SECRET not in shown
        assert base64_of(KEY) not in shown


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1


def test_a_child_process_is_given_what_was_given():
    assert to_environment(port=81, data_dir=Path("/d"), host=None) == {
        "IDENTITY_GATEWAY_PORT": "81",
        "IDENTITY_GATEWAY_DATA_DIR": "/d",
    }
