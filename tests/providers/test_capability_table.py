"""The table of what each vendor can do."""

from tests.providers.described import FILES, described
from tests.providers.table import COLUMNS, table


def test_the_table_has_one_row_for_each_descriptor() -> None:
    names = [line.split(" | ")[0].removeprefix("| ") for line in table().splitlines()[2:]]
    assert names == [described()[path.stem][0].name for path in FILES]


def test_every_row_fills_every_column() -> None:
    assert {line.count("|") for line in table().splitlines()} == {len(COLUMNS) + 1}
