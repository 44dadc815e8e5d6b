"""Every plot of a command in every format, with its numbers in a CSV file beside it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsopt.files import PLOTS
from qsopt.maps.crossover import Crossing, Crossovers, End
from qsopt.report.crossover_plot import plot_crossovers
from qsopt.report.lifetime_plot import plot_lifetime
from qsopt.report.plot import comparison_plot
from qsopt.report.serving_plot import write_front

BEGINS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def rows_beside(path: Path) -> list[dict[str, Any]]:
    with path.with_suffix(".csv").open(newline="") as file:
        return list(csv.DictReader(file))


def check(path: Path) -> None:
    assert path.read_bytes().startswith(BEGINS[path.suffix])
    assert len(list(path.parent.iterdir())) == 2, "nothing is left beside the plot and its numbers"


@pytest.mark.parametrize("ending", PLOTS)
def test_a_comparison(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "new" / f"a{ending}"
    lengths, reached = np.array([1024.0, 2048.0, 4096.0]), [(2.0, 3.0), (2.0, 0.0), (4.0, 2.0)]
    comparison_plot(lengths, reached, 2048.0, {"reuse": 2.0, "other": 0.25}, "t", path)
    check(path)
    rows = rows_beside(path)
    assert [row["ratio_dense_over_moe"] for row in rows] == ["1.5", "", "0.5", "", ""]
    assert rows[1]["verdict"] == "dense infeasible"
    assert [row["beyond_trained_context"] for row in rows] == ["False"] * 3 + [""] * 2
    assert (rows[4]["cause"], rows[4]["factor"]) == ("other", "0.25")


def test_a_comparison_says_what_lies_beyond_the_trained_context(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    lengths, reached = np.array([1024.0, 2048.0, 4096.0]), [(2.0, 3.0)] * 3
    comparison_plot(lengths, reached, 2048.0, {"other": 1.5}, "t", path, made_for=2048.0)
    beyond = [row["beyond_trained_context"] for row in rows_beside(path)[:3]]
    assert beyond == ["False", "False", "True"]
    assert "hollow: beyond the trained context" in path.read_text()


@pytest.mark.parametrize("ending", PLOTS)
def test_crossovers(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    ends = End(1024.0, 0.5, "moe wins"), End(4096.0, 2.0, "dense wins")
    reached = np.array([[2.0, 1.0], [2.0, 2.0], [2.0, 4.0]])
    values = np.array([1024.0, 2048.0, 4096.0])
    found = Crossovers((Crossing(2048.0, "to dense"),), (), *ends, 3, values, reached)
    plot_crossovers(found, "context", "t", path)
    check(path)
    assert [float(row["ratio_dense_over_moe"]) for row in rows_beside(path)] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("ending", [*PLOTS, ".csv"])
def test_a_front(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    numbers = {
        "tokens_per_s_per_device": 10.0,
        "tokens_per_s_per_user": 2.0,
        "ttft_s": 0.1,
        "tpot_s": 0.5,
        "way": "mixed",
    }
    phases = {name: {"in_words": f"tp 1, {name}"} for name in ("decode", "prefill")}
    write_front([{**numbers, **phases}], "t", path)
    if ending != ".csv":
        check(path)
    (row,) = rows_beside(path)
    assert (row["tokens_per_s_per_device"], row["decode"]) == ("10.0", "tp 1, decode")


@pytest.mark.parametrize("ending", PLOTS)
def test_lifetimes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    ways = [
        {
            "name": name,
            "in_words": name,
            "throughput_tokens_per_s": 1.0,
            "training_cost": cost,
            "cost_per_million_output_tokens": 1.0,
        }
        for name, cost in (("moe", 1e6), ("dense", 3e6))
    ]
    plot_lifetime({"options": ways, "break_even_output_tokens": []}, "t", path)
    check(path)
    first = {name: float(value) for name, value in rows_beside(path)[0].items()}
    served = first["output_tokens"] / 1e6 / 1e6
    assert first["moe_million_dollars"] == pytest.approx(1.0 + served)
    assert first["dense_million_dollars"] == pytest.approx(3.0 + served)


def test_maps_in_every_format(tmp_path: Path) -> None:
    import qsopt
    from qsopt.report.map_plot import plot_map

    service = qsopt.Service(
        qsopt.load_cluster("8xh100"), qsopt.Workload(8192), qsopt.load_efficiency("ideal")
    )
    axes = [
        qsopt.axis(name, "mixtral-8x7b", service, points=3) for name in ("context", "bandwidth")
    ]
    found = qsopt.phase_map("mixtral-8x7b", service, x=axes[0], y=axes[1])
    assert isinstance(found, qsopt.PhaseMap)
    for ending in PLOTS:
        path = tmp_path / ending[1:] / f"a{ending}"
        plot_map(found, "t", path)
        check(path)
        rows = rows_beside(path)
        assert len(rows) == found.ratio.size
        ratios = [float(row["ratio_dense_over_moe"] or "nan") for row in rows]
        np.testing.assert_allclose(ratios, found.ratio.ravel(), rtol=1e-12)
