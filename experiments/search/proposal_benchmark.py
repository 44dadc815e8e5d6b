"""Does `propose` find more than black-box search does in the same time?

`python -m experiments.search.proposal_benchmark [--fresh]` races them on wide problems and writes
docs/proposal-benchmark.md. Results are kept in results/proposal_benchmark as they come, so that a
run goes on where the last one stopped. All methods score the same rows of the same exact model,
compiled before a clock starts; the clock counts processor time of the whole process. A rival is
looked at when it has had the time that the search took on the same problem, and five times that.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.pages.template import render
from experiments.search.proposal_rivals import FORMS, ProposalBox
from experiments.search.search_rivals import METHODS, race
from qsopt import Workload, load_cluster, load_efficiency, load_model
from qsopt.catalog.models import model_facts
from qsopt.files import write_text
from qsopt.precision import in_float64
from qsopt.proposals.answers import Answer, ProposalQuestion, task_of
from qsopt.proposals.goals import Wanted
from qsopt.proposals.points import State, silent
from qsopt.proposals.stages import base_targets, search_question
from qsopt.spec.service import Service

RESULTS, PAGE = Path("results/proposal_benchmark"), Path("docs/proposal-benchmark.md")
SEEDS = (0, 1)
LONGER = 5.0
"""Times the search's own time that rivals have in the end."""
FAMILY = "moe"
OURS = "propose"

TASKS: tuple[tuple[str, str, int, int, float], ...] = (
    ("mixtral-8x7b", "4xh100", 2048, 512, 50.0),
    ("qwen3-30b-a3b", "1xh100", 1024, 1024, 50.0),
    ("gpt-oss-120b", "1xh200", 2048, 1024, 30.0),
    ("glm-4.5-air", "4xh200", 8192, 1024, 50.0),
    ("mixtral-8x22b", "8xa100-80gb", 2048, 512, 100.0),
    ("qwen3-235b-a22b", "8xb200", 8192, 1024, 30.0),
)
"""Whose quality, on what, tokens of the prompt and of the answer, milliseconds a token."""


def question_of(task: tuple[str, str, int, int, float], seed: int) -> ProposalQuestion:
    """The question of a task."""
    name, cluster, prompt, answer, tpot = task
    workload = Workload(prompt=prompt, answer=answer, ttft_limit=2.0, tpot_limit=tpot / 1e3)
    service = Service(load_cluster(cluster), workload, load_efficiency("fitted"))
    wanted = Wanted(load_model(name), model_facts(name).training_tokens)
    return ProposalQuestion(service, wanted, families=(FAMILY,), seed=seed, name=name)


def searched(question: ProposalQuestion) -> tuple[float, float, int]:
    """The best throughput that the search finds [tokens/s], its processor time [s], its rows."""
    answer = Answer(question, task_of(question), State(task_of(question)))
    began = time.process_time()
    search_question(answer, silent)
    spent = time.process_time() - began
    best = answer.state.best.get(base_targets(answer)[0])
    return (0.0 if best is None else best.throughput), spent, answer.state.evaluations


@in_float64
def raced(task: tuple[str, str, int, int, float], seed: int) -> dict[str, Any]:
    """What every method reaches on a task."""
    question = question_of(task, seed)
    searched(question)  # compiles
    value, seconds, rows = searched(question)
    found: dict[str, Any] = {"seconds": seconds, OURS: {"value": value, "evaluations": rows}}
    like = question.reference
    assert like is not None
    for form in FORMS:
        for method in METHODS:
            make = partial(ProposalBox, task_of(question), FAMILY, like, form, LONGER * seconds)
            box = race(method, make, seed)
            found[f"{method}, {form}"] = {
                "value": float(np.exp(box.best_after(seconds))),
                "later": float(np.exp(box.best)),
                "evaluations": box.count,
            }
    return found


def page(answers: list[dict[str, Any]]) -> str:
    """The page of the races that were run."""
    names = [f"{method}, {form}" for form in FORMS for method in METHODS]
    methods = []
    for name in names:
        methods.append({"name": name, **{when: _shares(answers, name, when) for when in WHEN}})
    return render("proposal_benchmark.md", races=answers, methods=methods, ours=OURS)


WHEN = ("value", "later")


def _shares(answers: list[dict[str, Any]], name: str, when: str) -> dict[str, float]:
    """What a method found over what the search did, over all races."""
    share = [each[name][when] / each[OURS]["value"] for each in answers]
    return {
        "median": float(np.median(share)),
        "worst": min(share),
        "best": max(share),
        "ahead": sum(value > 1.001 for value in share),
    }


def main() -> None:
    """Race what was not raced yet, and write the page."""
    parser = argparse.ArgumentParser(description="Proposals against black-box search")
    parser.add_argument("--fresh", action="store_true", help="race everything anew")
    fresh, answers = parser.parse_args().fresh, []
    for seed in SEEDS:
        for number, task in enumerate(TASKS):
            kept = RESULTS / f"{number}-{seed}.json"
            if fresh or not kept.is_file():
                print(f"{task[0]} on {task[1]}, seed {seed}", flush=True)
                record = {"task": list(task), "seed": seed, **raced(task, seed)}
                write_text(kept, json.dumps(record, indent=1) + "\n")
            answers.append(json.loads(kept.read_text("utf-8")))
            write_text(PAGE, page(answers))


if __name__ == "__main__":
    main()
