"""The benchmark of the search: its problems, rivals that see the same exact model, and a page that
says what the rows say.
"""

from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
from search_problems import problem

for rival in ("cma", "optuna"):
    pytest.importorskip(rival, reason="needs the extra bench")

from experiments.search import search_report
from experiments.search.search_rivals import METHODS, DesignBox, nearest_legal, race
from experiments.search.search_tasks import CLUSTERS, MODELS, WIDE_VARY, narrow_tasks, wide_tasks
from qsopt.physics.evaluate import compiled_metrics
from qsopt.search.architecture import with_architecture
from qsopt.search.evaluator import Evaluator
from qsopt.search.variables import ARCHITECTURE


def test_problems_cover_what_they_should():
    tasks = narrow_tasks()
    assert len(set(tasks)) == len(tasks) == 2 * len(MODELS) * len(CLUSTERS)
    assert {each.tpot_ms for each in tasks} == {None, 50.0}
    assert {each.context for each in tasks} >= {1024.0, 1048576.0}
    assert len(WIDE_VARY) >= 12
    for each in wide_tasks():
        free = [variable.name for variable in each.problem().variables if variable.free]
        assert set(free) == set(WIDE_VARY)


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator.for_problem(problem())


def test_rivals_see_the_exact_model(evaluator):
    """A point that keeps the limits is worth the log throughput of its design; no design beats the
    best of its architecture.
    """
    box = DesignBox(evaluator, seconds=1e9, together=256)
    points = np.random.default_rng(0).random((2048, box.dimensions))
    merits = box(points)
    best = int(np.argmax(merits))
    assert merits[best] == box.best > 0
    free, service = len(box.architecture), evaluator.problem.service
    values = {name: value[0] for name, value in _values(box, points[best : best + 1]).items()}
    layout = box._layouts(points[best : best + 1, free:])
    layout = type(layout)(
        *(np.asarray(getattr(layout, name))[0] for name in layout.__dataclass_fields__)
    )
    assert set(values) <= set(ARCHITECTURE)
    model = with_architecture(evaluator.problem.reference, values)
    reached = compiled_metrics(model, service, layout)
    assert bool(reached.feasible)
    assert merits[best] == pytest.approx(np.log(float(reached.throughput)), abs=1e-9)
    row = np.array([[values[each.name] for each in box.architecture]])
    assert merits[best] <= evaluator.designs(row).merits[0] + 1e-9


def _values(box: DesignBox, points: np.ndarray) -> dict[str, np.ndarray]:
    columns = points[:, : len(box.architecture)].T
    return {
        each.name: nearest_legal(each, x) for each, x in zip(box.architecture, columns, strict=True)
    }


@pytest.mark.parametrize("name", METHODS)
def test_a_rival_stops_in_time_and_remembers_when(evaluator, name):
    box = race(name, partial(DesignBox, evaluator, 0.2), seed=0)
    assert box.count > 0
    merits = [merit for merit, _, _ in box.history]
    assert merits == sorted(merits)
    first = box.time_to(merits[-1])
    assert first is not None
    spent, count = first
    assert spent > 0
    assert count <= box.count
    assert box.time_to(merits[-1] + 1.0) is None


def test_page_says_what_the_rows_say():
    tasks = narrow_tasks()[:2]
    timed = {
        f"{name}_{key}": 0.5 for name in search_report.TIMED for key in ("s", "evaluations", "gap")
    }
    solved = {
        **{
            "problem": tasks[0].name,
            **asdict(tasks[0]),
            "load": 1.0,
            "feasible": True,
            "optimum": 123.0,
            "gap": 0.0,
        },
        **{
            "relaxed": 0.06,
            "all_real": 0.01,
            "grid": 1e5,
            "complete": True,
            "certify_s": 1.0,
            "search_s": 0.7,
            **timed,
        },
        "TPE_s": None,
        "gradient_s": 0.1,
    }
    lost = {
        "problem": tasks[1].name,
        **asdict(tasks[1]),
        "load": 2.0,
        "feasible": False,
        "conflicts": "memory",
    }
    found = search_report.summary([solved, lost], [], 0.01, 3.0)
    assert (found["problems"], found["feasible"], found["exact"]) == (2, 1, 1.0)
    assert (found["relaxed_within_5_percent"], found["all_real_within_5_percent"]) == (0.0, 1.0)
    assert found["methods"]["TPE"]["close"] == 0.0
    assert found["methods"]["CMA-ES"]["median_ratio_where_both"] == pytest.approx(5.0)
    page = search_report.page([solved, lost], [], found, {"narrow_seconds": 3.0})
    assert "infeasible: memory" in page
    assert "+6.00%" in page
    assert search_report.draw([solved, lost], 3.0).axes
