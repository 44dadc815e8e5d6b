"""The stored record of a page: that of a real answer, with every other prompt and answer of its
map, to six digits.

To store it anew, after a change that is meant to move it: `python tests/report/pages.py`.
"""

import json
from pathlib import Path
from typing import Any

STORED = Path(__file__).parent / "data" / "page.json"

COMMAND = (
    "report --model qwen3-30b-a3b --dense qwen3-14b --cluster 1xh100 --prompt 1024 --answer 1024"
)


def stored() -> dict[str, Any]:
    return json.loads(STORED.read_text("utf-8"))


def thinned(record: dict[str, Any]) -> dict[str, Any]:
    """Less of its map."""
    grid = record["grid"]
    kept = {name: grid[name][::2] for name in ("prompts", "answers")}
    rows = [
        row
        for row in grid["rows"]
        if row["prompt"] in kept["prompts"] and row["answer"] in kept["answers"]
    ]
    return _rounded({**record, "grid": {**grid, **kept, "rows": rows}})


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def made() -> dict[str, Any]:
    """The record of the command, computed now."""
    import contextlib
    import io
    import tempfile

    from qsopt.cli import main

    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
        path = Path(folder) / "report.html"
        assert main([*COMMAND.split(), "--json", "--out", str(path)]) == 0
        assert path.stat().st_size < 5e6
    record = json.loads(said.getvalue())
    assert record.pop("schema_version") >= 1
    return record


if __name__ == "__main__":
    STORED.write_text(json.dumps(thinned(made()), indent=1) + "\n", "utf-8")
