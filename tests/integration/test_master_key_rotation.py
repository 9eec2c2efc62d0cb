"""A master key is rotated in three starts: behind the present one, before it, alone."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from identity_gateway.app import open_state
from identity_gateway.settings import Settings, SettingsError

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def with_state(folder: Path, master_key: str, work: Any) -> Any:
    async def run() -> Any:
        async with open_state(Settings(data_dir=folder, master_key=master_key)) as state:
            return await work(state)

    return asyncio.run(run())


def test_a_key_that_is_alone_and_new_does_not_open_the_database(tmp_path: Path):
    with_state(tmp_path, OLD, lambda state: state.access_keys.create("ci"))
    with pytest.raises(SettingsError, match="master key"):
        with_state(tmp_path, NEW, lambda state: state.access_keys.list())


def test_access_keys_survive_the_old_key_once_the_new_one_was_first(tmp_path: Path):
    made = with_state(tmp_path, OLD, lambda state: state.access_keys.create("ci"))
    for keys in (f"{OLD},{NEW}", f"{NEW},{OLD}"):
        with_state(tmp_path, keys, lambda state: state.access_keys.list())
    _, secret = with_state(tmp_path, NEW, lambda state: state.access_keys.find(made.id))
    assert secret.reveal() == made.secret.reveal()


def test_the_old_key_opens_nothing_after_the_rotation(tmp_path: Path):
    with_state(tmp_path, OLD, lambda state: state.access_keys.create("ci"))
    with_state(tmp_path, f"{NEW},{OLD}", lambda state: state.access_keys.list())
    with pytest.raises(SettingsError, match="master key"):
        with_state(tmp_path, OLD, lambda state: state.access_keys.list())
