"""Rows of measured tables, which do not ship: a user gives their folder."""

from pathlib import Path

from qsopt.calibration.tables.columns import read_table
from qsopt.errors import InputError

RECORDS = Path(__file__).parents[1] / "data"
"""What was found with measurements that do not ship, for those who do not have them."""


def measured_rows(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of a folder.

    Raises:
        InputError: if the folder lacks it, or it cannot be read.
    """
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the folder that holds {name} with --data")
    columns = read_table(path).columns
    return [
        dict(zip(columns, map(str, row), strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
