import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic import TRUE, gemm_points

from qsopt.calibration.fit import Fit, fit
from qsopt.calibration.form import form, seconds
from qsopt.calibration.held_out import cross_validation
from qsopt.calibration.kinds import calibrate
from qsopt.calibration.points import unlabelled
from qsopt.calibration.validation import predicted, rows
from qsopt.errors import InputError
from qsopt.fitted.errors import errors, ranked_right
from qsopt.fitted.generations import generation
from qsopt.fitted.groups import Calibration, load_calibration, save_calibration
from qsopt.fitted.parameters import DEFAULTS
from qsopt.physics import collectives
from qsopt.physics.collectives import Group, Links
from qsopt.physics.roofline import roofline
from qsopt.spec.efficiency import LinkEfficiency, OperatorEfficiency

SUM = form(launch=1e-5, bandwidth=0.9, compute=0.9)


def test_prediction_is_the_roofline_that_evaluates(tmp_path):
    points = gemm_points(tmp_path)
    spent = jax.vmap(
        lambda cost, peak, speed: roofline(
            cost, peak, speed, OperatorEfficiency(6e-6, 0.7, 0.6, 1.0, *[0.0] * 6)
        )
    )(points.cost, points.peak, points.bandwidth)
    np.testing.assert_allclose(points.seconds, spent.seconds, rtol=1e-12)


def test_collective_form_without_ramp_is_the_collective_that_evaluates(tmp_path):
    from test_readers import write

    from qsopt.calibration.tables import links
    from qsopt.calibration.tables.columns import Skipped

    text = "gpu,op,impl,dtype,num_gpus,num_nodes,message_bytes,latency_ms\n"
    text += "h100_sxm,all_reduce,nccl_2,half,8,1,1000000,1\n"
    points = links.collective(write(tmp_path, "c.csv", text), Skipped())
    given = {"launch": 5e-6, "step": 2e-7, "bandwidth": 0.6}
    ours = seconds(unlabelled(points), {name: np.array([value]) for name, value in given.items()})
    link = LinkEfficiency(0.6, 5e-6, 2e-7)
    wires = Links(link, link, 450e9 * 0.6, 1.0)
    theirs = collectives.all_reduce(
        Group(jnp.array(8.0), jnp.array(1.0)), jnp.array(1e6), wires
    ).seconds
    np.testing.assert_allclose(ours[0], theirs, rtol=1e-12)


def test_parameters_are_recovered_under_noise(tmp_path):
    found = fit(gemm_points(tmp_path, noise=0.05), SUM)
    for accelerator in (0, 1):
        for name, value in found.values(0, accelerator).items():
            assert value == pytest.approx(TRUE[name], rel=0.12), name


def test_an_accelerator_gets_its_own_value_and_an_unseen_one_the_pool(tmp_path):
    points = gemm_points(tmp_path, own={"b200": 2.0})
    found = fit(points, SUM, np.stack([np.ones(len(points)), (points.labels.gpu != "b200") * 1.0]))
    place = found.membership.accelerators.index("b200")
    other = 1 - place
    assert found.values(0, place)["launch"] > 1.5 * found.values(0, other)["launch"]
    assert found.values(0, place, chosen=1) == found.generation_values(
        0, int(found.membership.generation[place]), chosen=1
    )
    assert found.values(0, place, chosen=1)["launch"] == pytest.approx(
        found.values(0, other, chosen=1)["launch"], rel=0.2
    )


def test_an_unseen_accelerator_is_predicted_by_its_generation(tmp_path):
    """H100 and H200 launch three times as slowly as B200; an H200 without rows is taken for an
    H100, and a generation without rows for all.
    """
    points = gemm_points(
        tmp_path, ("h100_sxm", "h200_sxm", "b200_sxm"), own={"h100": 3.0, "h200": 3.0}
    )
    seen = (points.labels.gpu != "h200") * 1.0
    group = _group_of(fit(points, SUM, np.stack([np.ones(len(points)), seen])), chosen=1)
    h200, h100, b200 = (group["hopper"], group["h100"], group["blackwell"])
    assert h200["launch"] == pytest.approx(h100["launch"], rel=0.2)
    assert h200["launch"] > 1.8 * b200["launch"]


def _group_of(found: Fit, chosen: int) -> dict[str, dict[str, float]]:
    """Values by generation and by accelerator."""
    member = found.membership
    generations = {
        name: found.generation_values(0, place, chosen)
        for place, name in enumerate(member.generations)
    }
    return generations | {
        name: found.values(0, place, chosen) for place, name in enumerate(member.accelerators)
    }


def test_generations_are_those_of_matrix_instructions():
    assert generation("h200") == generation("h100") == generation("h20") == "hopper"
    assert generation("gb300") == generation("b200")
    assert generation("rtx-pro-6000") != generation("b200")
    assert generation("my-own") == "my-own"


def test_a_few_wild_rows_do_not_move_the_fit(tmp_path):
    points = gemm_points(tmp_path)
    wild = points.seconds.copy()
    wild[::10] *= 8.0
    moved = type(points)(
        points.labels, points.cost, points.peak, points.bandwidth, points.rows, points.tokens, wild
    )
    for name, value in fit(moved, SUM).values(0).items():
        assert value == pytest.approx(TRUE[name], rel=0.2), name


def test_left_out_rows_are_predicted_by_fits_without_them(tmp_path):
    points = gemm_points(tmp_path, own={"b200": 3.0})
    found = cross_validation(points, SUM)
    new = points.labels.gpu == "b200"
    seen = errors(found.fitted[new], points.seconds[new])
    unseen = errors(found.other_accelerators[new], points.seconds[new])
    assert seen.median < 0.1
    assert unseen.median > 2 * seen.median
    assert unseen.bias < 0


def test_errors_by_hand():
    found = errors(np.array([1.1, 0.8, 1.0]), np.ones(3))
    assert found.n == 3
    assert found.median == pytest.approx(0.1)
    assert found.bias == pytest.approx(0.0)
    assert np.isnan(errors(np.array([]), np.array([])).median)


def test_ranking_counts_pairs_inside_a_group_and_leaves_ties_out():
    right, pairs = ranked_right(
        np.array([1.0, 2.0, 3.0, 9.0]),
        np.array([1.0, 3.0, 2.0, 1.0]),
        np.array(["a", "a", "a", "b"]),
    )
    assert (right, pairs) == (2, 3)
    assert ranked_right(np.array([1.0, 2.0]), np.array([1.0, 1.01]), np.array(["a", "a"])) == (0, 0)


def test_groups_survive_writing_and_predict_what_was_fitted(tmp_path):
    points = gemm_points(tmp_path)
    groups, found = calibrate({"gemm": points}, {"gemm": SUM}, draws=2)
    calibration = Calibration('a "source"\\', "1", "2026-11-22", tuple(groups))
    save_calibration(calibration, tmp_path / "s.toml")
    again = load_calibration(tmp_path / "s.toml")
    np.testing.assert_allclose(predicted(points, again), found["gemm"].fitted, rtol=2e-3)
    assert (again.source, again.date) == (calibration.source, calibration.date)
    assert again.groups[0].fitted.n == len(points)
    assert all(again.groups[0].low[name] <= again.groups[0].high[name] for name in SUM.names)
    group = again.groups[0]
    assert set(group.generations) == {"hopper", "blackwell"}
    assert group.values("h100") == group.own["h100"].values
    assert group.values("h200") == group.generations["hopper"]
    assert group.values("mi300x") == group.values(None) == group.pool
    records = list(rows({"gemm": points}, again))
    assert {"*", "g.csv"} == {row["file"] for row in records}
    assert all(set(row) == {"file", "group", "n", "median", "p90", "bias"} for row in records)


def test_a_kind_that_the_store_lacks_is_predicted_at_full_peaks(tmp_path):
    points = gemm_points(tmp_path)
    np.testing.assert_allclose(
        predicted(points, Calibration("", "", "2026-11-22", ())),
        points.cost.flops / points.peak + points.cost.bytes / points.bandwidth,
        rtol=1e-12,
    )
    assert DEFAULTS["softness"] == 1.0


def test_a_broken_store_is_refused(tmp_path):
    (tmp_path / "s.toml").write_text("source = 1\n")
    with pytest.raises(InputError, match="missing"):
        load_calibration(tmp_path / "s.toml")
