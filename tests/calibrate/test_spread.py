"""Intervals from errors: laws of the quantiles, and coverage of rows that they have not seen."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from qsopt.calibration.coverage import inside
from qsopt.calibration.serving.cells import WEIGHT, cells, nested
from qsopt.calibration.serving.pairs import measured_pairs
from qsopt.calibration.serving.runs import Runs
from qsopt.calibration.serving.spread import Left, columns, coverage
from qsopt.errors import InputError
from qsopt.fitted.spread import (
    INTERVALS,
    LEVELS,
    NORMAL,
    POOL,
    SEEN,
    SOFTWARE,
    Cell,
    Pairs,
    Spreads,
    add_spreads,
    interval,
    inverse,
    load_spreads,
    ratio_quantiles,
    regimes,
    shipped_spreads,
    widened,
)

SIDE = np.array([-0.4, -0.2, 0.0, 0.1, 0.3])


def test_quantiles_are_those_of_a_known_distribution() -> None:
    errors = np.random.default_rng(0).normal(0.1, 0.3, 40_000)
    found = cells(errors, [np.full(len(errors), "all")], {})["all"]
    assert found.rows == len(errors)
    np.testing.assert_allclose(found.quantiles, 0.1 + 0.3 * np.array(NORMAL), atol=0.01)


def test_few_rows_are_drawn_to_the_wider_cell() -> None:
    errors = np.concatenate([np.zeros(1000), np.full(50, 1.0)])
    narrow = np.array(["many"] * 1000 + ["few"] * 50)
    found = cells(errors, [np.full(1050, "all"), narrow], {})
    share = 50 / (50 + WEIGHT)
    np.testing.assert_allclose(found["few"].quantiles, share * 1.0)
    unknown = cells(np.full(3, np.nan), [np.full(3, "all")], {})
    assert unknown == {}


def test_groups_that_were_not_seen_are_widened_by_their_number() -> None:
    errors = np.random.default_rng(1).normal(0.0, 1.0, 400)
    names = [np.full(400, "all")]
    seen = cells(errors, names, {})["all"].quantiles
    unseen = cells(errors, names, {"model": np.arange(400) % 4})["all"].quantiles
    np.testing.assert_allclose(unseen - seen[2], np.sqrt(1.25) * (seen - seen[2]))


def test_less_seen_holds_more_seen() -> None:
    given = {
        "fitted": {"all": Cell(1, SIDE)},
        "other_shapes": {"all": Cell(1, SIDE / 2 + 0.05)},
        "neither": {"all": Cell(1, SIDE / 4)},
    }
    found = {seen: one["all"].quantiles for seen, one in nested(given).items()}
    for seen in ("other_shapes", "neither"):
        assert found[seen][0] <= found["fitted"][0]
        assert found[seen][4] >= found["fitted"][4]
        assert np.all(np.diff(found[seen]) >= 0.0)
    assert found["neither"][4] >= found["other_shapes"][4]


class Made:
    """Errors of a model's own and of a row, which no fit changes."""

    def __init__(self, models: int, deviation: float, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.model = np.repeat([f"m{place}" for place in range(models)], 50)
        self.gpu = np.tile(["x", "y"], len(self.model) // 2)
        self.quantities: tuple[str, ...] = ("tpot",)
        self.regimes = {source: [np.full(len(self.model), source)] for source in (SOFTWARE, POOL)}
        own = np.repeat(generator.normal(0.0, deviation, models), 50)
        self.values = own + generator.normal(0.0, 0.2, len(self.model))

    def fit(self, wanted: Iterable[Left]) -> None:
        """Nothing to fit."""

    def errors(self, quantity: str, source: str, left: Left) -> np.ndarray:
        """As they were made."""
        return self.values


@pytest.mark.parametrize("deviation", [0.0, 0.2])
def test_coverage_of_models_that_were_left_out(deviation: float) -> None:
    found = [row for row in coverage(Made(60, deviation)) if row["left_out"] == "other_shapes"]
    assert {row["source"] for row in found} == {SOFTWARE, POOL}
    for row in found:
        assert row["n"] == 3000
        assert 0.76 < row["coverage80"] < 0.84
        assert 0.46 < row["coverage50"] < 0.54


def test_a_model_does_not_widen_its_own_interval() -> None:
    made = Made(8, 0.0)
    made.values = np.where(made.model == "m3", made.values + 5.0, made.values)
    (row,) = (
        one
        for one in coverage(made)
        if (one["left_out"], one["source"]) == ("other_shapes", SOFTWARE)
    )
    assert row["groups"]["m3"] == 0.0
    without = (frozenset(("m3",)), frozenset[str]())
    assert columns(made, "tpot", ("fitted",), without)["fitted"][SOFTWARE].rows == 350


def test_errors_of_a_ratio() -> None:
    alone = ratio_quantiles(SIDE, SIDE, Pairs(0.0, 0.0, 9, 3))
    np.testing.assert_allclose(alone[[0, 4]], [-np.hypot(0.4, 0.3), np.hypot(0.3, 0.4)])
    together = ratio_quantiles(SIDE, SIDE, Pairs(0.5, 0.0, 9, 3))
    assert alone[0] < together[0] < together[2] == 0.0 < together[4] < alone[4]
    even = np.array([-0.3, -0.1, 0.0, 0.1, 0.3])
    np.testing.assert_allclose(ratio_quantiles(even, even, Pairs(1.0, 0.0, 9, 3)), 0.0, atol=1e-9)
    leaning = ratio_quantiles(SIDE, SIDE, Pairs(0.5, -0.2, 9, 3))
    np.testing.assert_allclose(leaning - together, -0.15)


def test_intervals_by_hand() -> None:
    found = interval(10.0, SIDE)
    assert found["80"] == pytest.approx([10 * np.exp(-0.4), 10 * np.exp(0.3)])
    assert found["50"] == pytest.approx([10 * np.exp(-0.2), 10 * np.exp(0.1)])
    np.testing.assert_allclose(inverse(SIDE), [-0.3, -0.1, 0.0, 0.2, 0.4])
    np.testing.assert_allclose(widened(SIDE, 0.0), SIDE)
    assert widened(SIDE, 0.1)[4] == pytest.approx(np.hypot(0.3, 0.12816), rel=1e-4)


def test_shipped_cells_keep_the_laws() -> None:
    for name in ("serving", "power"):
        spreads = shipped_spreads(name)
        assert spreads is not None
        for found in spreads.cells.values():
            for seen, one in found.items():
                for key, cell in one.items():
                    assert np.all(np.diff(cell.quantiles) >= 0.0)
                    if seen != "fitted" and key in found["fitted"]:
                        known = found["fitted"][key].quantiles
                        assert cell.quantiles[0] <= known[0]
                        assert cell.quantiles[4] >= known[4]


def test_what_is_seen_and_where() -> None:
    assert regimes(POOL, 4, 1) == (POOL, "pooled, batch 1-4, 1 device")
    assert regimes("vllm", 65, 8)[-1] == "vllm, batch above 64, 5 or more devices"
    cell = Cell(3, SIDE)
    name = "mixtral-8x7b"
    spreads = Spreads((name,), ("h100",), {"tpot": {"fitted": {SOFTWARE: cell}}})
    assert spreads.seen(name, "h100") == "fitted"
    assert spreads.seen("b", "h100") == "other_shapes"
    assert spreads.seen(name, "l40s") == "other_accelerators"
    assert spreads.seen(None, None) == SEEN[3]
    assert spreads.known_generation("h200")
    assert not spreads.known_generation("l40s")
    where = regimes("vllm", 1, 1)
    assert spreads.cell("tpot", "fitted", where) == (SOFTWARE, cell)
    assert spreads.cell("tpot", "neither", where) is None
    errors, models = np.array([0.0, 0.5, np.nan, 0.0]), [name, name, name, "qwen3-32b"]
    held = inside(spreads, "tpot", errors, models, ["h100"] * 4, [("vllm", where)] * 4)
    np.testing.assert_array_equal(held, [1.0, 0.0, np.nan, np.nan])


def test_spreads_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "constants.toml"
    path.write_text("interference = 0.9  # kept\n")
    assert load_spreads(path) is None
    cell = Cell(7, SIDE)
    made = Spreads(
        ("a",), ("h100",), {"tpot": {"fitted": {"x, y": cell}}}, {POOL: Pairs(0.2, -0.1, 12, 3)}
    )
    for _ in range(2):  # written anew in place of the old ones
        add_spreads(made, path)
    again = load_spreads(path)
    assert again is not None
    assert again.ratio == made.ratio
    np.testing.assert_allclose(again.cells["tpot"]["fitted"]["x, y"].quantiles, SIDE)
    assert path.read_text().startswith("interference = 0.9  # kept")
    path.write_text("[spread]\nlevels = [0.5]\n")
    with pytest.raises(InputError, match="qsopt calibrate"):
        load_spreads(path)


def test_pairs_tell_how_errors_go_together() -> None:
    generator = np.random.default_rng(2)
    count, shared = 200, generator.normal(0.0, 0.2, 200)
    moe, dense = (shared + generator.normal(0.0, 0.1, count) for _ in range(2))
    column = np.ones(2 * count)
    runs = Runs(
        step=column,
        waiting=column,
        backend=np.zeros(2 * count, int),
        width=np.zeros(2 * count, int),
        tpot=column,
        reading=column,
        sequences=column,
        throughput=column,
        model=np.repeat(["mixtral-8x7b", "qwen3-32b"], count),
        gpu=np.full(2 * count, "h100"),
        layout=np.arange(2 * count).astype(str),
        concurrency=column,
        layers=column,
        answer=column,
        ahead=column,
        ttft=column,
        source=np.full(2 * count, ""),
        lengths=np.tile(np.arange(count).astype(str), 2),
        devices=column,
        backends=("vllm",),
    )
    found = measured_pairs(runs, np.concatenate([moe, dense - 0.3]))
    assert found is not None
    assert (found.pairs, found.models) == (count, 1)
    assert found.correlation == pytest.approx(0.8, abs=0.06)
    assert found.lean == pytest.approx(-0.3, abs=0.03)
    assert measured_pairs(runs.where(np.arange(2 * count) < count), moe) is None


def test_levels_and_intervals_match() -> None:
    for name, (low, high) in INTERVALS.items():
        assert LEVELS[high] - LEVELS[low] == pytest.approx(int(name) / 100)
