"""The map of a page against the exact one."""

import numpy as np
import pytest

import qsopt
from qsopt.comparison.contenders import request_duel
from qsopt.comparison.dense import NAMED
from qsopt.maps.axes import Axis
from qsopt.maps.pair import MatchedPair
from qsopt.maps.request_map import request_map
from qsopt.report.inquiry import Inquiry
from qsopt.report.page import grid
from qsopt.report.page.sides import PageSides


@pytest.mark.slow
def test_the_map_is_near_the_exact_one_and_never_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "PROMPTS", 4.0 ** np.arange(5, 9))
    monkeypatch.setattr(grid, "ANSWERS", 4.0 ** np.arange(3, 7))
    monkeypatch.setattr(grid, "CACHED", (0.0,))
    monkeypatch.setattr(grid, "FACTORS", (1.0,))
    model, dense = qsopt.load_model("qwen3-30b-a3b"), qsopt.load_model("qwen3-14b")
    service = qsopt.Service(
        qsopt.load_cluster("1xh100"),
        qsopt.Workload(prompt=1024, answer=1024),
        qsopt.load_efficiency("fitted"),
    )
    inquiry = Inquiry(model, service, kind=NAMED, named=dense)
    sides = PageSides(inquiry, request_duel(model, dense, service, NAMED))
    found = grid.grid_record(sides)["rows"]
    pair = MatchedPair(model, service, inquiry.believe().q, NAMED, dense)
    exact = request_map(pair, Axis("prompt", grid.PROMPTS), Axis("answer", grid.ANSWERS))
    for side, optimum in (("moe", exact.moe), ("dense", exact.dense)):
        reached = np.array([row[f"{side}_tokens_per_s"] for row in found])
        best = optimum.throughput.ravel()
        assert np.all(reached <= best * (1.0 + 1e-6))
        assert np.median(reached / best) > 0.99
