"""Plain records as JSON text, flat ones as CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from qsopt.record import plain

SCHEMA_VERSION = 1
"""Of the JSON of commands: it grows when a key goes away or changes its meaning, not when one comes
(docs/json.md).
"""


def to_json(record: object) -> str:
    """JSON text of a record; a number that is not finite is null."""
    return json.dumps(plain(record), indent=2, allow_nan=False)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV of flat rows, with a column for every key that any of them has; a number that is not
    finite, or not there, is an empty cell.
    """
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(dict(row)) for row in rows)
    return text.getvalue()


def answer_json(record: dict[str, Any] | list[dict[str, Any]]) -> str:
    """JSON text of a command's answer, or of each row of a list, with the version of its schema."""
    if isinstance(record, list):
        return to_json([{"schema_version": SCHEMA_VERSION, **row} for row in record])
    return to_json({"schema_version": SCHEMA_VERSION, **record})
