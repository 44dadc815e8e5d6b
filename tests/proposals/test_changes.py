"""Changes of a model that exists: equal quality, the gradient beside the exact gain, and the
derivative itself against central differences.
"""

import json

import numpy as np
import pytest

from qsopt import InputError, Workload, load_cluster, load_efficiency, load_model
from qsopt.cli import main
from qsopt.proposals.answers import ProposalQuestion
from qsopt.proposals.architecture import COLUMNS
from qsopt.proposals.changes import changes
from qsopt.proposals.goals import Wanted
from qsopt.proposals.sizing import judged
from qsopt.spec.service import Service


def question(name: str, cluster: str = "4xh100") -> ProposalQuestion:
    workload = Workload(prompt=2048, answer=512, ttft_limit=2.0, tpot_limit=0.05)
    service = Service(load_cluster(cluster), workload, load_efficiency("fitted"))
    return ProposalQuestion(service, Wanted(load_model(name), None), families=("moe",))


@pytest.fixture(scope="module")
def found():
    return changes(question("mixtral-8x7b"))


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
