"""Assertions of the suite explain themselves like those of a test module."""

import pytest

pytest.register_assert_rewrite("tests.providers.checks", "tests.providers.signalled")
