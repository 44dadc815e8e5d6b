"""Changes of a model that exists: equal quality, the gradient beside the exact gain, and the
derivative itself against central differences.
"""

import json
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest

from qsopt import InputError, Workload, load_cluster, load_efficiency, load_model
from qsopt.cli import main
from qsopt.proposals.answers import ProposalQuestion
from qsopt.proposals.architecture import COLUMNS
from qsopt.proposals.changes import changes
from qsopt.proposals.goals import Wanted
from qsopt.proposals.sizing import judged
from qsopt.proposals.slopes import slope_towards
from qsopt.proposals.storage import DRAFTED, best_with_drafts, served_as
from qsopt.spec.service import Service


def question(name: str, cluster: str = "4xh100") -> ProposalQuestion:
    workload = Workload(prompt=2048, answer=512, ttft_limit=2.0, tpot_limit=0.05)
    service = Service(load_cluster(cluster), workload, load_efficiency("fitted"))
    return ProposalQuestion(service, Wanted(load_model(name), None), families=("moe",))


@pytest.fixture(scope="module")
def found():
    return changes(question("mixtral-8x7b"), storage=False)


def test_every_change_keeps_the_quality_and_is_ranked(found) -> None:
    assert found.ranked
    gains = [each.gain for each in found.ranked]
    assert gains == sorted(gains, reverse=True)
    rows = np.stack([each.point.row for each in found.ranked])
    quality = judged(rows, found.task.goal, found.task.body)
    assert (np.asarray(quality.margin) >= -1e-9).all()
    assert any(len(each.text) == 2 for each in found.ranked)
    assert all(each.point.tpot <= 0.05 * (1 + 1e-9) for each in found.ranked)


def test_the_gradient_predicts_small_changes(found) -> None:
    """Of the layers: nothing of their cost jumps but whole batches and widths."""
    layers = [each for each in found.ranked if len(each.text) == 1 and "layers" in each.text[0]]
    small = min(layers, key=lambda each: abs(each.point.row[COLUMNS.index("layers")] - 32))
    assert small.predicted == pytest.approx(small.gain, abs=0.03)


@pytest.mark.slow
def test_formats_and_drafts_are_changes_too() -> None:
    """fp8 halves what is read and held, so it serves more; drafts alone and beside the best."""
    found = changes(question("mixtral-8x7b", "1xh200"))
    by_text = {each.text: each for each in found.ranked}
    narrow = by_text[("weights bf16 to fp8_block",)]
    assert narrow.gain > 0 and narrow.predicted > 0
    assert narrow.task.body.precision == "fp8_block"
    assert narrow.point.key == found.reference.key
    assert any("weights bf16 to fp8_block" in each and len(each) == 2 for each in by_text)
    drafting = by_text[(DRAFTED,)]
    option = best_with_drafts(served_as(found.reference, found.task.body, found.task.service))
    assert option is not None
    assert drafting.point.throughput == pytest.approx(float(option.reached.throughput), rel=1e-12)
    assert float(option.reached.tpot) <= 0.05 * (1 + 1e-9)


def test_slopes_along_a_line_are_linear_in_it(found) -> None:
    point, task = found.reference, found.task
    here = served_as(point, task.body, task.service)
    there = served_as(point, replace(task.body, precision="fp8_block"), task.service)
    halfway = jax.tree.map(
        lambda a, b: (a + b) / 2 if eqx.is_inexact_array_like(a) else a, here, there
    )
    assert slope_towards(point, task, here, here) == 0.0
    whole, half = (slope_towards(point, task, here, each) for each in (there, halfway))
    assert whole > 0
    assert half == pytest.approx(whole / 2, rel=1e-9)


def test_a_model_of_mixed_layers_is_told_what_to_do_instead() -> None:
    with pytest.raises(InputError, match="quality-of"):
        changes(question("llama-4-maverick"))


def test_out_is_for_designs(capsys: pytest.CaptureFixture[str]) -> None:
    words = "propose --from mixtral-8x7b --cluster 4xh100 --prompt 1k --answer 1k --out x"
    assert main(words.split()) == 2
    assert "with --from" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_says_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = "propose --from mixtral-8x7b --cluster 4xh100 --prompt 2048 --answer 512 --json"
    assert main(words.split()) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["reference"]["metrics"]["tokens_per_s_per_device"] > 0
    for each in record["changes"]:
        keys = {"changes", "predicted_gain", "gain", "architecture", "parameters", "marks"}
        assert keys <= each.keys()
