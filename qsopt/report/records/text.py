"""Plain records as JSON text."""

import json
from typing import Any

from qsopt.record import plain

SCHEMA_VERSION = 1
"""Of the JSON of commands: it grows when a key goes away or changes its meaning, not when one comes
(docs/json.md).
"""


def to_json(record: object) -> str:
    """JSON text of a record; a number that is not finite is null."""
    return json.dumps(plain(record), indent=2, allow_nan=False)


def answer_json(record: dict[str, Any] | list[dict[str, Any]]) -> str:
    """JSON text of a command's answer, or of each row of a list, with the version of its schema."""
    if isinstance(record, list):
        return to_json([{"schema_version": SCHEMA_VERSION, **row} for row in record])
    return to_json({"schema_version": SCHEMA_VERSION, **record})
