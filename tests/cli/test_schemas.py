"""The JSON of commands against the schemas in docs/schemas, which `python -m
experiments.pages.schemas` writes.
"""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from experiments.pages.schemas import QUESTIONS, filled, schema_of
from qsopt.report.records import SCHEMA_VERSION

Answer = Callable[..., Any]
Run = Callable[..., Any]

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"

STORED = sorted(path.stem for path in DATA.glob("*.json"))


def validator(command: str) -> jsonschema.Draft202012Validator:
    """The validator of a command's answers."""
    schema = json.loads((ROOT / "docs" / "schemas" / f"{command}.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", STORED)
def test_stored_answers_are_as_documented(name: str) -> None:
    """These answers are kept equal to those of the commands by `test_stored`."""
    record = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    assert record["schema_version"] == SCHEMA_VERSION
    validator(name.split("_", maxsplit=1)[0]).validate(record)


@pytest.mark.parametrize(
    "words",
    [
        "list models",
        "list hardware",
        "list laws",
        "evaluate --model qwen3-8b --cluster 1xh200 --context 4096 --efficiency ideal --batch 8 "
        "--tpot-ms 50",
        *(
            pytest.param(question, marks=pytest.mark.slow)
            for command in ("serve", "lifetime", "evaluate")
            for question in QUESTIONS[command]
        ),
    ],
)
def test_answers_are_as_documented(words: str, answer: Answer) -> None:
    record = answer(f"{words} --json")
    for each in record if isinstance(record, list) else [record]:
        assert each["schema_version"] == SCHEMA_VERSION
    validator(words.split(maxsplit=1)[0]).validate(record)


QUICK = (*QUESTIONS["reproduce"][:1], *QUESTIONS["validate"][1:], *QUESTIONS["calibrate"][:2])
"""Of the questions below, those that take a second."""


@pytest.mark.parametrize(
    ("schema", "question"),
    [
        pytest.param(name, question, marks=() if question in QUICK else pytest.mark.slow)
        for name in (
            "reproduce",
            "validate",
            "calibrate",
            "calibrate-device",
            "report",
            "propose",
            "propose-from",
        )
        for question in QUESTIONS[name]
    ],
)
def test_answers_with_progress_are_as_documented(
    schema: str, question: str, run: Run, tmp_path: Path
) -> None:
    """What these do meanwhile stands on stderr."""
    outcome = run(f"{filled(question, tmp_path)} --json")
    assert outcome.status == 0, outcome.err
    assert outcome.record["schema_version"] == SCHEMA_VERSION
    validator(schema).validate(outcome.record)


def test_the_stored_page_is_as_documented() -> None:
    page = ROOT / "tests" / "report" / "data" / "page.json"
    record = json.loads(page.read_text("utf-8")) | {"schema_version": SCHEMA_VERSION}
    validator("report").validate(record)
    del record["lines"][0]["trained_end"]
    assert not validator("report").is_valid(record)


def test_the_schema_sees_a_change() -> None:
    record = json.loads((DATA / "compare_limit.json").read_text("utf-8"))
    for key, value in (("verdict", 3), ("q", "2"), ("moe", {}), ("schema_version", 0)):
        changed = {**copy.deepcopy(record), key: value}
        assert not validator("compare").is_valid(changed), key
        del changed[key]
        assert key == "schema_version" or not validator("compare").is_valid(changed), key
    assert validator("compare").is_valid({**record, "something_new": 1})


def test_a_schema_by_hand() -> None:
    found = schema_of("x", [{"a": 1, "b": None}, {"a": 1.5, "b": {"c": [True]}, "d": "e"}])
    assert found["required"] == ["a", "b"]
    assert found["properties"]["a"] == {"type": "number"}
    assert found["properties"]["b"]["type"] == ["null", "object"]
    assert found["properties"]["b"]["properties"]["c"]["items"] == {"type": "boolean"}
    assert found["properties"]["d"] == {"type": "string"}
    assert schema_of("x", [{"a": None}])["properties"]["a"] == {}


def test_the_page_names_every_schema() -> None:
    page = (ROOT / "docs" / "json.md").read_text("utf-8")
    named = set(re.findall(r"docs/schemas/([\w-]+)\.json", page))
    assert named == {path.stem for path in (ROOT / "docs" / "schemas").glob("*.json")}
    assert named == set(QUESTIONS)
    assert f"version {SCHEMA_VERSION}" in page
