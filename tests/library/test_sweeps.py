"""Sweeps are what the functions say point by point."""

import numpy as np
import pytest

import qsopt

LAYOUT = qsopt.Deployment(tensor=4, data=2, expert=8, batch=64)


def test_rows_of_a_design_are_those_of_evaluate() -> None:
    table = qsopt.sweep(
        "mixtral-8x7b",
        "8xh100",
        qsopt.Workload(8192),
        "ideal",
        over={"context": [1024, 8192], "top_k": [1, 2], "batch": [32, 64, 128]},
        deployment=LAYOUT,
        metrics=["throughput", "tpot", "feasible"],
        slopes=True,
    )
    assert len(table["context"]) == 12
    np.testing.assert_array_equal(table["batch"][:4], [32, 64, 128, 32])
    model = qsopt.load_model("mixtral-8x7b").with_(top_k=1)
    design = qsopt.Deployment(tensor=4, data=2, expert=8, batch=128)
    service = qsopt.Service(
        qsopt.load_cluster("8xh100"), qsopt.Workload(8192), qsopt.load_efficiency("ideal")
    )
    (row,) = np.flatnonzero(
        (table["context"] == 8192) & (table["top_k"] == 1) & (table["batch"] == 128)
    )
    reached = qsopt.evaluate(model, service, design)
    assert table["throughput"][row] == pytest.approx(float(reached.throughput), rel=1e-12)
    assert table["tpot"][row] == pytest.approx(float(reached.tpot), rel=1e-12)
    slope = qsopt.sensitivity(model, service, design).fixed.gradient["context"]
    assert table["slope_throughput_context"][row] == pytest.approx(slope, rel=1e-9)


def test_any_leaf_may_be_moved() -> None:
    over = {"accelerator.bandwidth": [1e12, 4e12], "model.decoder.ffn.0.kind.top_k": [2.0]}
    table = qsopt.sweep(
        "mixtral-8x7b", "8xh100", qsopt.Workload(8192), over=over, deployment=LAYOUT
    )
    assert table["throughput"][1] > table["throughput"][0]
    assert set(table) > {"accelerator.bandwidth", "throughput", "reuse"}


def test_both_sides_are_those_of_compare() -> None:
    workload = qsopt.Workload(8192)
    table = qsopt.sweep(
        "mixtral-8x7b",
        "2xh200",
        workload,
        "ideal",
        over={"context": [4096, 8192], "q": [1.5]},
        slopes=True,
    )
    said = qsopt.compare("mixtral-8x7b", "2xh200", workload, "ideal", q=1.5).to_dict()
    assert table["ratio"][1] == pytest.approx(said["ratio_dense_over_moe"], rel=1e-9)
    for side in ("moe", "dense"):
        rate = said[side]["throughput_tokens_per_s"]
        assert table[f"{side}_throughput"][1] == pytest.approx(rate, rel=1e-9)
        assert table[f"{side}_layout"][1] == said[side]["deployment"]["in_words"]
        assert table[f"slope_{side}_throughput_context"][1] < 0.0
    assert table["verdict"][1] == said["verdict"]


def test_a_table_is_a_dictionary_of_equal_columns() -> None:
    table = qsopt.sweep(
        "mixtral-8x7b", "8xh100", qsopt.Workload(8192), over={"batch": [1, 2]}, deployment=LAYOUT
    )
    columns = table.to_dict()
    assert type(columns) is dict
    assert {len(column) for column in columns.values()} == {2}
    assert repr(table).startswith("Sweep(2 rows: batch, throughput")
    with pytest.raises(KeyError, match="there is batch"):
        table["nothing"]


@pytest.mark.slow
def test_requests_are_those_of_compare() -> None:
    workload = qsopt.Workload(prompt=1024, answer=1024)
    asked = ("qwen3-30b-a3b", "1xh100", workload)
    table = qsopt.sweep(*asked, dense="qwen3-14b", over={"answer": [64, 1024]}, slopes=True)
    said = qsopt.compare(*asked, dense="qwen3-14b").to_dict()
    assert table["ratio"][1] == pytest.approx(said["ratio_dense_over_moe"], rel=1e-9)
    assert list(table["verdict"]) == ["moe wins", "dense wins"]
    assert np.isfinite(table["slope_moe_throughput_answer"]).all()
    assert table["q"][0] == pytest.approx(said["q"], rel=1e-9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"over": {}}, "give the inputs to move"),
        ({"over": {"contxt": [1]}}, "input 'contxt'"),
        ({"over": {"workload.contxt": [1]}}, "there is no 'contxt'; there is"),
        ({"over": {"prompt": [1]}}, "give a workload with a prompt and an answer"),
        ({"over": {"batch": [1]}}, "give deployment="),
        ({"over": {"context": []}}, "give one or more finite numbers"),
        ({"over": {"context": [1.0, float("nan")]}}, "give one or more finite numbers"),
        ({"over": {"context": [8192.0]}, "metrics": ["speed"]}, "metric 'speed'"),
        ({"over": {"q": [2.0]}, "deployment": LAYOUT}, "q is about the dense match"),
        ({"over": {"top_k": [9]}, "deployment": LAYOUT}, "top_k <= experts"),
    ],
)
def test_what_is_no_sweep_is_refused(options: dict, said: str) -> None:
    with pytest.raises(qsopt.InputError, match=said):
        qsopt.sweep("mixtral-8x7b", "8xh100", qsopt.Workload(8192), **options)
