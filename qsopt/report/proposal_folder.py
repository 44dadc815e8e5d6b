"""A folder of proposals: for each its config, its record and a page, beside the fronts and the
whole answer.

A proposal is evaluated again from its own folder, by the config that lies there, the plan and the
inputs that its record holds, and gives the same bytes. Every file appears whole or not at all.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from qsopt.catalog.huggingface import read_config
from qsopt.errors import InputError
from qsopt.files import read_text, understood, write_text
from qsopt.precision import in_float64
from qsopt.proposals.answers import Answer
from qsopt.proposals.architecture import padded
from qsopt.proposals.configs import config_of
from qsopt.proposals.plans import option_of, reached
from qsopt.report.proposal_inputs import inquiry_of
from qsopt.report.proposals_plot import write_plot, write_table
from qsopt.report.proposals_text import report_page
from qsopt.report.records import answer_json, to_json
from qsopt.report.records.proposals import evaluation_record
from qsopt.serving.plan import Plan
from qsopt.spec.deployment import Deployment

CONFIG, PROPOSAL, PAGE = "config.json", "proposal.json", "report.md"
WHOLE, PLOT, TABLE = "propose.json", "pareto.png", "pareto.csv"
"""Names of files."""


def write_folder(answer: Answer, record: dict[str, Any], title: str, folder: Path) -> None:
    """Write everything; the names of the folders of proposals are put into the record.

    Raises:
        InputError: if a file cannot be written.
    """
    context = _longest(record)
    for proposal, found in zip(answer.proposals, record["proposals"], strict=True):
        found["folder"] = str(folder / proposal.name)
        config = config_of(proposal.point.row, answer.task.body, context)
        own = folder / proposal.name
        write_text(own / CONFIG, to_json(config) + "\n")
        option = option_of(proposal.point, answer.task)
        held = {**found, "inputs": record["inputs"], "plan": plan_record(option.plan, option.way)}
        held["folder"] = proposal.name
        write_text(own / PROPOSAL, to_json(held) + "\n")
        write_text(own / PAGE, report_page(found, record))
    write_table(record, folder / TABLE)
    write_plot(record, title, folder / PLOT)
    write_text(folder / WHOLE, answer_json(record) + "\n")


def _longest(record: dict[str, Any]) -> int:
    """Tokens of the longest sequence, rounded up to a power of two."""
    known = record["inputs"]
    tokens = known["context"] or (known["prompt"] or 0) + (known["answer"] or 0)
    return 1 << max(math.ceil(tokens) - 1, 1).bit_length()


def earlier(folder: Path, inputs: dict[str, Any]) -> dict[str, Any] | None:
    """The record that a folder holds of the same question; None where it holds none.

    Raises:
        InputError: if it holds that of another question, or none that can be read.
    """
    path = folder / WHOLE
    if not path.is_file():
        return None
    text = read_text(path, "give another folder")
    with understood(path, "it is no record of proposals: give another folder"):
        record = json.loads(text)
        same = record["inputs"] == json.loads(to_json(inputs))
        record["complete"]  # a record says whether the search was finished
    if not same:
        raise InputError(f"{folder}: holds proposals for another question; give another folder")
    return record


# ---- again ---------------------------------------------------------------------------------------

_SIZES = ("tensor", "data", "pipeline", "expert", "batch", "dispatched", "dcp", "expert_slots")


def plan_record(plan: Plan, way: str) -> dict[str, Any]:
    """A plan as plain numbers."""
    layouts = {
        name: {size: float(getattr(getattr(plan, name), size)) for size in _SIZES}
        for name in ("decode", "prefill")
    }
    return {"way": way, **layouts, "tokens": float(plan.tokens), "sharing": float(plan.sharing)}


def plan_from(record: dict[str, Any]) -> Plan:
    """The plan of a record."""
    decode, prefill = (
        Deployment(**{size: np.float64(record[name][size]) for size in _SIZES})
        for name in ("decode", "prefill")
    )
    return Plan(decode, prefill, record["tokens"], record["sharing"])


@in_float64
def evaluated_again(folder: Path) -> str:
    """The text of the record of a proposal, evaluated again from its folder.

    Raises:
        InputError: if a file is missing or cannot be understood.
    """
    path = folder / PROPOSAL
    text = read_text(path, "propose --out writes such a file")
    model = read_config(folder / CONFIG)
    with understood(path, "propose --out writes such a file"):
        held = json.loads(text)
        name, inputs, plan = held["name"], held["inputs"], plan_from(held["plan"])
        inquiry = inquiry_of(inputs, model, name)
        option = reached(padded(model), plan, held["plan"]["way"], inquiry.service)
        return to_json({**held, **evaluation_record(option, inquiry)}) + "\n"


def check_folder(folder: Path) -> dict[str, bool]:
    """Whether each proposal of a folder, evaluated again, gives the bytes that lie there.

    Raises:
        InputError: if the folder holds no proposals.
    """
    own = sorted(path.parent for path in folder.glob(f"*/{PROPOSAL}"))
    if not own:
        raise InputError(f"{folder}: holds no proposals; write some with --out")
    return {
        each.name: evaluated_again(each) == read_text(each / PROPOSAL, "write it again")
        for each in own
    }
