"""Qualities that are asked for, and widths that have them."""

import numpy as np
import pytest

from qsopt import InputError, belief, laws, load_model, parameter_count
from qsopt.proposals.architecture import as_row
from qsopt.proposals.bodies import body_of
from qsopt.proposals.boxes import box_of, changed
from qsopt.proposals.goals import Wanted, as_good_as, of_budget, of_loss, quality_of
from qsopt.proposals.rows import row_of
from qsopt.proposals.sampling import legal, neighbours, sample
from qsopt.proposals.sizing import judged, sized
from qsopt.quality import BESIROGLU, law

MIXTRAL = load_model("mixtral-8x7b")
BODY = body_of(MIXTRAL)


def test_goal_of_a_model_is_its_believed_dense_match() -> None:
    goal = as_good_as(MIXTRAL, law("power"), None)
    q = belief(MIXTRAL, "power", None).q
    assert float(goal.size) == pytest.approx(q * float(parameter_count(MIXTRAL).active), rel=1e-9)
    dense = load_model("llama-3.1-70b")
    assert float(as_good_as(dense, law("power"), None).size) == float(parameter_count(dense).total)


@pytest.mark.parametrize("name", ["power", "ludziejewski"])
def test_the_reference_gets_its_own_width_back(name: str) -> None:
    goal = as_good_as(MIXTRAL, law(name), 2e12)
    row = row_of(MIXTRAL, BODY)
    assert row is not None
    blank = np.where(np.arange(len(row)) == len(row) - 1, 0.0, row)
    found = sized(np.stack([blank, row]), goal, BODY, 128.0)
    assert (found.rows == row).all()
    assert np.asarray(found.quality.margin) == pytest.approx([0.0, 0.0], abs=1e-9)


def test_every_width_is_the_least_multiple_that_meets_the_goal() -> None:
    goal = as_good_as(MIXTRAL, law("power"), None)
    box = box_of("moe", BODY)
    found = sample(box, goal, BODY, 64, seed=3)
    assert len(found.rows) == 64
    assert (np.asarray(found.quality.margin) >= -1e-9).all()
    narrower = found.rows.copy()
    narrower[:, -1] -= box.width_step
    kept = narrower[:, -1] > 0
    below = judged(narrower[kept], goal, BODY)
    assert (np.asarray(below.margin) < 0).all()
    assert box.holds(found.rows, found.quality).all()


def test_samples_and_neighbours_follow_the_seed_alone() -> None:
    goal = as_good_as(MIXTRAL, law("power"), None)
    box = box_of("moe", BODY)
    first, again, other = (sample(box, goal, BODY, 32, seed) for seed in (0, 0, 1))
    assert (first.rows == again.rows).all()
    assert first.rows.shape != other.rows.shape or (first.rows != other.rows).any()
    near = neighbours(first.rows[0], box, 5)
    assert (near == neighbours(first.rows[0], box, 5)).all()
    found = legal(near, box, goal, BODY, np.ones(len(near)))
    assert box.holds(found.rows, found.quality).all()


def test_a_loss_is_that_of_the_dense_model_and_its_tokens() -> None:
    goal = of_loss(2.1, law("power"))
    assert float(BESIROGLU.loss(goal.size, goal.tokens)) == pytest.approx(2.1, abs=1e-9)
    assert float(BESIROGLU.optimal_tokens(6 * goal.size * goal.tokens)) == pytest.approx(
        float(goal.tokens), rel=1e-6
    )
    longer = of_loss(2.1, law("power"), 5e12)
    assert float(longer.size) < float(goal.size)


def test_a_budget_gives_fewer_active_parameters_more_tokens() -> None:
    goal = of_budget(1e24, law("power"))
    optimal = float(BESIROGLU.optimal_parameters(1e24))
    for name in ("llama-3.1-8b", "mixtral-8x7b"):
        found = quality_of(load_model(name), goal)
        assert float(found.training_flops) == pytest.approx(1e24)
        size, tokens = float(found.dense_size), float(found.tokens)
        reached = float(BESIROGLU.loss(size, tokens))
        assert (reached <= float(goal.loss)) == (float(found.margin) >= 0)
    assert float(goal.loss) == pytest.approx(
        float(BESIROGLU.loss(optimal, 1e24 / 6 / optimal)), rel=1e-9
    )


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(loss=1.7), "above 1.817"),
        (Wanted(loss=1.83, tokens=1e11), "no dense model reaches"),
        (Wanted(budget=-1.0), "training compute"),
    ],
)
def test_bad_goals_are_refused(wanted: Wanted, words: str) -> None:
    with pytest.raises(InputError, match=words):
        wanted.by(law("power"))


def test_laws_that_need_tokens_say_so() -> None:
    with pytest.raises(InputError, match="training tokens"):
        as_good_as(load_model("arctic"), laws()["tian"], None)


def test_bounds_are_told_by_name() -> None:
    box = box_of("moe", BODY)
    tight = changed(box, experts=(8, 8), top_k=(2, 2))
    row = as_row(
        {**dict(zip(("layers", "hidden", "kv"), (32, 4096, 8), strict=True)),
         "experts": 8, "top_k": 2, "shared": 0, "leading": 0, "width": 14336}
    )  # fmt: skip
    quality = judged(row[None], as_good_as(MIXTRAL, law("power"), None), BODY)
    told = {name for name, _, _ in tight.at_bounds(row, quality)}
    assert not told & {"experts", "top_k", "shared", "leading"}
    assert ("experts", "lower", 8.0) in box.at_bounds(row, quality)
    with pytest.raises(InputError, match="no bound 'depth'"):
        changed(box, depth=(1, 2))
