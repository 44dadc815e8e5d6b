"""What does the JSON of each command hold?

`python -m experiments.pages.schemas` runs a few questions of every command and writes the schema
that all of its answers meet to docs/schemas/, one file a command (JSON Schema 2020-12), and one for
a flag that changes what a command answers (`propose-from`). What is in every answer is required;
more keys may come without a new version. With `--answers FOLDER` answers that lie there count too,
in files named after their command (`compare_limit.json`); `--only` writes some commands alone.
"""

import io
import json
import shlex
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.pages.schema_tables import write_tables
from qsopt.claims.paper import CLAIMS
from qsopt.cli import main as run
from qsopt.files import write_text
from qsopt.report.records import SCHEMA_VERSION

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "list": ("list models", "list hardware", "list laws"),
    "evaluate": (
        "evaluate --model mixtral-8x7b --cluster 8xh100 --context 8192 --law all",
        "evaluate --model mixtral-8x7b --cluster 1xh100 --context 8192",
        "evaluate --model qwen3-8b --cluster 1xh100 --context 8192 --efficiency ideal",
        "evaluate --model mixtral-8x7b --cluster 4xh100 --prompt 2k --answer 512 --tp 4",
    ),
    "serve": (
        "serve --model qwen3-30b-a3b --cluster 2xh100 --prompt 2k --answer 512 --ttft-ms 2000",
        "serve --model qwen3-30b-a3b --cluster 2xh100 --prompt 2k --answer 512 --tpot-ms 1",
    ),
    "compare": (
        "compare --model mixtral-8x7b --cluster 8xh100 --context 8192 --law all",
        "compare --model mixtral-8x7b --cluster 1xh100 --context 8192",
        "compare --model qwen3-30b-a3b --dense qwen3-14b --cluster 1xh100 --prompt 1k --answer 1k",
    ),
    "lifetime": ("lifetime --model qwen3-30b-a3b --cluster 2xh100 --prompt 2k --answer 512",),
    "optimize": (
        "optimize --like mixtral-8x7b --cluster 2xh200 --context 8192 --vary top_k,tp,batch "
        "--starts 2 --certify 0",
        "optimize --like mixtral-8x7b --cluster 2xh200 --context 8192 --vary top_k,tp,batch "
        "--starts 2 --certify 0 --max-devices 1 --max-training-flops 1e24 --tokens 1T",
        "optimize --like mixtral-8x7b --cluster 2xh200 --prompt 1k --answer 256 --ttft-ms 2000 "
        "--vary top_k,experts --starts 2 --certify 2e4 --max-devices 1",
        "optimize --like mixtral-8x7b --cluster 2xh200 --prompt 1k --answer 256 --tpot-ms 0.1 "
        "--vary top_k --starts 2 --certify 0",
    ),
    "sensitivity": (
        "sensitivity --model mixtral-8x7b --cluster 4xa100-80gb --context 8192 --batch 64 --tp 4",
        "sensitivity --model qwen3-30b-a3b --cluster 2xh100 --prompt 2k --answer 512",
    ),
    "crossover": (
        "crossover --model mixtral-8x7b --cluster 2xh200 --over context --from 1k --to 64k",
        "crossover --model qwen3-30b-a3b --dense qwen3-14b --cluster 1xh100 --prompt 1k "
        "--answer 1k --over answer --from 16 --to 4k",
    ),
    "map": ("map --model mixtral-8x7b --cluster 2xh200 --x-points 4 --y-points 3",),
    "propose": (
        "propose --quality-of llama-3.1-8b --cluster 1xh100 --prompt 1024 --answer 256 "
        "--tpot-ms 40 --family dense",
        "propose --quality-of qwen3-30b-a3b --cluster 1xh200 --context 4096",
        "propose --budget-flops 1e23 --like llama-3.1-8b --cluster 1xh200 --context 4096 "
        "--family dense --efficiency ideal --price 2",
    ),
    "propose-from": ("propose --from qwen3-30b-a3b --cluster 1xh200 --context 4096",),
    "report": (
        "report --model mixtral-8x7b --cluster 8xh100 --context 8192 --out {folder}/page.html",
        "report --model mixtral-8x7b --cluster 128xh100 --context 8192 --out {folder}/page.html",
        "report --model qwen3-30b-a3b --dense qwen3-14b --cluster 1xh100 --prompt 1k --answer 1k "
        "--out {folder}/page.html",
    ),
    "reproduce": ("reproduce list", *(f"reproduce {claim}" for claim in CLAIMS)),
    "validate": (
        "validate --data {folder}/tables/all",
        "validate --data {folder}/tables/servers",
    ),
    "calibrate": (
        "calibrate --data {folder}/tables/servers --out {folder}/servers",
        "calibrate --data {folder}/tables/operators --out {folder}/operators --draws 2",
        "calibrate --only serving --data {folder}/tables/all --out {folder}/serving",
    ),
    "calibrate-device": ("calibrate --device --out {folder}/device",),
}
"""Questions of every command that answers in JSON, where `{folder}` is one with tables."""

_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


@dataclass(frozen=True)
class Settings:
    """Where schemas go, and where more answers lie."""

    out: Path = Path("docs/schemas")
    answers: Path | None = None
    run: bool = True
    """Whether to ask the questions; else only the answers that lie there count."""
    only: tuple[str, ...] = ()
    """Which schemas to write; all if left out."""


def schema_of(command: str, answers: Iterable[Any]) -> dict[str, Any]:
    """The schema that all answers of a command meet; of a list, that of its rows."""
    found = list(answers)
    rows = [row for answer in found for row in answer] if isinstance(found[0], list) else found
    held = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"qsopt {command.replace('-', ' --')} --json",
        **_shape(rows),
    }
    held["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    if isinstance(found[0], list):
        inner = {key: held[key] for key in held if key not in ("$schema", "title")}
        held = {"$schema": held["$schema"], "title": held["title"], "type": "array", "items": inner}
    return held


def _shape(values: list[Any]) -> dict[str, Any]:
    """The schema of values that stand at the same place; anything where all of them are null, which
    does not say what else may stand there.
    """
    kinds = {_KINDS.get(type(value), type(value).__name__) for value in values}
    kinds = {{"dict": "object", "list": "array"}.get(kind, kind) for kind in kinds}
    if "number" in kinds:
        kinds.discard("integer")
    if kinds == {"null"}:
        return {}
    told = sorted(kinds)
    shape: dict[str, Any] = {"type": told[0] if len(told) == 1 else told}
    tables = [value for value in values if isinstance(value, dict)]
    if tables:
        keys = {key: None for table in tables for key in table}
        shape["properties"] = {
            key: _shape([table[key] for table in tables if key in table]) for key in keys
        }
        shape["required"] = [key for key in keys if all(key in table for table in tables)]
    entries = [entry for value in values if isinstance(value, list) for entry in value]
    if entries:
        shape["items"] = _shape(entries)
    return shape


def filled(question: str, folder: Path) -> str:
    """A question about tables, which are written to a folder."""
    if "{folder}/tables" in question:
        write_tables(folder / "tables")
    return question.format(folder=folder)


def _asked(question: str) -> Any:
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(printed):
        assert run([*shlex.split(filled(question, Path(folder))), "--json"]) == 0, question
    return json.loads(printed.getvalue())


def main(settings: Settings) -> None:
    """Ask, and write."""
    for command in settings.only or QUESTIONS:
        questions = QUESTIONS[command]
        answers = [_asked(question) for question in questions] if settings.run else []
        if settings.answers is not None:
            files = sorted(settings.answers.glob("*.json"))
            own = [file for file in files if file.stem.partition("_")[0] == command]
            answers += [json.loads(file.read_text("utf-8")) for file in own]
        if answers:
            text = json.dumps(schema_of(command, answers), indent=1)
            write_text(settings.out / f"{command}.json", text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
