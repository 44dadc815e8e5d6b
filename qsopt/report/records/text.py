"""Plain records as JSON text."""

import json

from qsopt.record import plain


def to_json(record: object) -> str:
    """JSON text of a record; a number that is not finite is null."""
    return json.dumps(plain(record), indent=2, allow_nan=False)
