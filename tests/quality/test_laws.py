"""Every law: derivatives, inverses, statuses, warnings, batching, and sane directions."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.errors import InputError
from qsopt.quality import (
    BAND,
    COMBINED,
    Abnar,
    Clark,
    Krajewski,
    Ludziejewski,
    MoeArchitecture,
    Power,
    Status,
    law,
    laws,
    stack,
)

NAMES = tuple(laws())
FIELDS = tuple(field.name for field in dataclasses.fields(MoeArchitecture))
DEEPSEEK_V3 = MoeArchitecture(671e9, 37e9, 669.1e9, 35.1e9, 256, 8, 1, 7168, 2048, 14.8e12)
QWEN3_30B = MoeArchitecture(30.5e9, 3.3e9, 29.9e9, 2.7e9, 128, 8, 0, 2048, 768, 36e12)
SMALL = MoeArchitecture(3.5e9, 0.4e9, 3.4e9, 0.35e9, 64, 2, 1, 1024, 512, 50e9)
DENSE = MoeArchitecture(1e9, 1e9, 0.9e9, 0.9e9, 1, 1, 0, 1024, 1024, 20e9)
HUGE = MoeArchitecture(1e17, 1e15, 1e17, 1e15, 64, 1, 0, 8192, 8192, 1e12)


def scaled(architecture: MoeArchitecture, log_factors: jax.Array) -> MoeArchitecture:
    return MoeArchitecture(
        *(getattr(architecture, name) * jnp.exp(log_factors[i]) for i, name in enumerate(FIELDS))
    )


@pytest.mark.parametrize("architecture", [DEEPSEEK_V3, SMALL], ids=["frontier", "small"])
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_agree_with_central_differences(
    name: str, architecture: MoeArchitecture
) -> None:
    chosen, step = laws()[name], 1e-5
    log_q = jax.jit(lambda z: jnp.log(chosen.q(scaled(architecture, z))))
    exact = np.asarray(jax.jit(jax.grad(log_q))(jnp.zeros(len(FIELDS))))
    shifts = step * np.eye(len(FIELDS))
    numeric = [
        float(log_q(jnp.asarray(row)) - log_q(jnp.asarray(-row))) / (2 * step) for row in shifts
    ]
    np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "moving"),
    [
        ("geometric", {"total", "active"}),
        (
            "tian",
            {
                "experts",
                "top_k",
                "shared_experts",
                "hidden",
                "expert_width",
                "active_nonembedding",
                "tokens",
            },
        ),
        ("ludziejewski", {"experts", "top_k", "shared_experts", "active", "tokens"}),
        ("clark-s-base", {"experts", "top_k", "shared_experts", "active_nonembedding"}),
        (
            "krajewski",
            {"top_k", "shared_experts", "total_nonembedding", "active_nonembedding", "tokens"},
        ),
        ("abnar", {"experts", "top_k", "shared_experts", "total", "active"}),
        ("constant", set()),
        ("empirical", {"total", "active"}),
        ("power", {"total", "active"}),
    ],
)
def test_which_fields_move_q(name: str, moving: set[str]) -> None:
    gradient = eqx.filter_grad(lambda architecture: law(name).q(architecture))(
        jax.tree.map(jnp.asarray, SMALL)
    )
    assert {field for field in FIELDS if float(getattr(gradient, field)) != 0} == moving


@pytest.mark.parametrize(
    "name", ["clark-s-base", "clark-rl-r-refit", "ludziejewski", "geometric", "power", "combined"]
)
def test_a_dense_model_matches_itself(name: str) -> None:
    """Tian's activation ratio saturates at 1.016 instead of 1, which costs it 0.6 %."""
    assert float(law(name).q(DENSE)) == pytest.approx(1, rel=5e-3 if name == "combined" else 1e-12)


def clark(name: str) -> Clark:
    chosen = law(name)
    assert isinstance(chosen, Clark)
    return chosen


def test_clark_inverts_its_loss() -> None:
    for name in (name for name in NAMES if name.startswith("clark")):
        chosen = clark(name)
        size, experts = jnp.float64(4e8), jnp.float64(40)
        dense = chosen.effective_parameters(size, experts)
        assert float(chosen.loss(dense, jnp.float64(1))) == pytest.approx(
            float(chosen.loss(size, experts)), rel=1e-12
        )


def test_other_laws_invert_their_loss() -> None:
    size, tokens, one = jnp.float64(4e9), jnp.float64(60e9), jnp.float64(1)
    dense, _ = Krajewski().dense_size(size, tokens, jnp.float64(4))
    assert float(Krajewski().dense_loss(dense, tokens)) == pytest.approx(
        float(Krajewski().loss(size, tokens, jnp.float64(4)))
    )
    dense, _ = Ludziejewski().dense_size(size, tokens, jnp.float64(16))
    expected = float(Ludziejewski().loss(size, tokens, jnp.float64(16)))
    assert float(Ludziejewski().loss(dense, tokens, one)) == pytest.approx(expected, rel=1e-12)
    dense, _ = Abnar().dense_size(size, jnp.float64(0.1))
    expected = float(Abnar().loss(size, tokens, jnp.float64(0.9)))
    assert float(Abnar().loss(dense, tokens, jnp.float64(0))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["krajewski", "ludziejewski", "abnar"])
def test_an_unreachable_loss_is_a_status_with_finite_derivatives(name: str) -> None:
    chosen = law(name)
    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(chosen.q))(
        jax.tree.map(jnp.asarray, HUGE)
    )
    match = chosen.match(HUGE)
    assert int(match.status) == Status.UNREACHABLE
    assert not bool(match.physical)
    assert np.isfinite(float(value))
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(gradient))
    assert any(
        "no dense model trained on 1e12 tokens" in warning for warning in chosen.warnings(HUGE)
    )


def test_statuses() -> None:
    rows = [
        ("abnar", DEEPSEEK_V3, Status.EXCEEDS_TOTAL),
        ("constant", DENSE, Status.EXCEEDS_TOTAL),
        ("clark-rl-r", DEEPSEEK_V3, Status.EXPERTS_HURT),
        ("clark-rl-r-refit", DEEPSEEK_V3, Status.PHYSICAL),
        ("tian", DENSE, Status.PHYSICAL),
        ("combined", HUGE, Status.PHYSICAL),
    ]
    for name, architecture, status in rows:
        assert int(law(name).match(architecture).status) == status, name


def test_clark_warns_right_above_its_cutoff() -> None:
    chosen = clark("clark-hash-refit")
    above = eqx.tree_at(
        lambda a: a.active_nonembedding, DEEPSEEK_V3, np.asarray(1.001 * float(chosen.cutoff))
    )
    assert int(chosen.match(above).status) == Status.EXPERTS_HURT
    below = eqx.tree_at(
        lambda a: a.active_nonembedding, DEEPSEEK_V3, np.asarray(0.999 * float(chosen.cutoff))
    )
    assert int(chosen.match(below).status) == Status.PHYSICAL


def test_warnings_name_quantity_value_and_limit() -> None:
    assert law("ludziejewski").warnings(DEEPSEEK_V3) == [
        "extrapolates: total parameters 671e9, fitted up to 5e9",
        "extrapolates: active parameters 37e9, fitted up to 2.7e9",
        "extrapolates: experts 256, fitted up to 32",
        "extrapolates: top-k 8, fitted at 1",
        "extrapolates: granularity 7, fitted at 0.6667",
        "extrapolates: training tokens 14.8e12, fitted up to 80e9",
    ]
    assert law("abnar").warnings(DEEPSEEK_V3)[-1] == (
        "unphysical: dense match of 2.045e12 parameters exceeds the MoE's total of 671e9"
    )
    assert "extrapolates: training compute 3.117e24 FLOP, fitted up to 1e21 FLOP" in law(
        "abnar"
    ).warnings(DEEPSEEK_V3)
    assert law("tian").warnings(DENSE) == []
    assert law("geometric").warnings(HUGE) == []
    assert "fitted from 79e6" in " ".join(
        law("ludziejewski").warnings(scaled(SMALL, jnp.full(len(FIELDS), -3.0)))
    )


def test_warnings_refuse_to_be_traced() -> None:
    def count(tokens: jax.Array) -> int:
        return len(law("tian").warnings(eqx.tree_at(lambda a: a.tokens, SMALL, tokens)))

    with pytest.raises(InputError, match="outside jit"):
        jax.jit(count)(jnp.float64(1e9))


@pytest.mark.parametrize("name", NAMES)
def test_batches_and_compiles_once(name: str) -> None:
    chosen, traces = law(name), []

    @eqx.filter_jit
    def q(architecture: MoeArchitecture) -> jax.Array:
        traces.append(1)
        return chosen.q(architecture)

    architectures = [DEEPSEEK_V3, QWEN3_30B, SMALL]
    single = [float(q(architecture)) for architecture in architectures]
    assert len(traces) == 1
    batch = jax.vmap(chosen.match)(stack(architectures))
    np.testing.assert_allclose(batch.q, single, rtol=1e-10)
    np.testing.assert_allclose(
        batch.dense_parameters,
        [s * float(a.active) for s, a in zip(single, architectures, strict=True)],
    )


MORE: dict[str, Callable[[MoeArchitecture], MoeArchitecture]] = {
    "experts": lambda a: eqx.tree_at(
        lambda x: (x.experts, x.total, x.total_nonembedding),
        a,
        (2 * a.experts, 1.9 * a.total, 1.9 * a.total_nonembedding),
    ),
    "top_k": lambda a: eqx.tree_at(
        lambda x: (x.top_k, x.active, x.active_nonembedding),
        a,
        (2 * a.top_k, 1.4 * a.active, 1.4 * a.active_nonembedding),
    ),
}


@pytest.mark.parametrize(
    "name",
    ["geometric", "power", "tian", "ludziejewski", "combined", "clark-s-base", "clark-hash-refit"],
)
def test_q_grows_with_experts_and_falls_with_top_k(name: str) -> None:
    chosen = law(name)
    assert float(chosen.q(MORE["experts"](SMALL))) > float(chosen.q(SMALL))
    assert float(chosen.q(MORE["top_k"](SMALL))) < float(chosen.q(SMALL))


def test_q_against_size_and_tokens() -> None:
    counts = [
        eqx.tree_at(lambda a: a.tokens, DEEPSEEK_V3, np.asarray(tokens))
        for tokens in (1e12, 5e12, 14.8e12, 50e12)
    ]
    found = [float(law("ludziejewski").q(architecture)) for architecture in counts]
    assert found == pytest.approx([3.31, 2.74, 2.38, 2.05], abs=0.005)
    longer = eqx.tree_at(lambda a: a.tokens, SMALL, 10 * SMALL.tokens)
    assert float(law("tian").q(longer)) > float(law("tian").q(SMALL))
    larger = eqx.tree_at(lambda a: a.active_nonembedding, SMALL, 10 * SMALL.active_nonembedding)
    assert float(law("clark-s-base").q(larger)) < float(law("clark-s-base").q(SMALL))


def test_abnar_cancels_the_data_term() -> None:
    longer = eqx.tree_at(lambda a: a.tokens, SMALL, 1e3 * SMALL.tokens)
    assert float(law("abnar").q(longer)) == float(law("abnar").q(SMALL))


def test_empirical_answers_with_neighbours_and_levels_off() -> None:
    chosen = law("empirical")
    sparse = eqx.tree_at(lambda a: a.active, DEEPSEEK_V3, np.asarray(1e6))
    assert float(chosen.q(sparse)) == pytest.approx(6.11 / 0.855, rel=0.05)
    assert 2.3 < float(chosen.q(DENSE)) < 3
    assert chosen.warnings(sparse)[0].startswith(
        "extrapolates: active fraction 1.49e-06, fitted from 0.04886"
    )


def test_power_is_physical_everywhere_and_the_geometric_rule_at_one_half() -> None:
    chosen = law("power")
    assert isinstance(chosen, Power)
    for architecture in (DEEPSEEK_V3, QWEN3_30B, SMALL, DENSE, HUGE):
        assert int(chosen.match(architecture).status) == Status.PHYSICAL
    assert float(chosen.q(DEEPSEEK_V3)) == pytest.approx((671 / 37) ** float(chosen.exponent))
    half = eqx.tree_at(lambda law: law.log_q, chosen, -0.5 * chosen.log_fraction)
    assert float(half.q(QWEN3_30B)) == pytest.approx(float(law("geometric").q(QWEN3_30B)))
    assert float(half.standard_error) == pytest.approx(0, abs=1e-12)
    assert chosen.warnings(HUGE)[0].startswith("extrapolates: active fraction 0.01, fitted from")


def test_registry() -> None:
    assert set(BAND) <= set(NAMES)
    assert all(name == chosen.name and chosen.source for name, chosen in laws().items())
    assert law("combined").name == COMBINED.name
    with pytest.raises(InputError, match="did you mean geometric"):
        law("geometrc")
    with pytest.raises(InputError, match="no dense limit"):
        law("zhao")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tokens", 0, "positive tokens"),
        ("top_k", 300, "0 < top_k <= experts"),
        ("shared_experts", -1, "set 0 where there are none"),
        ("active", 700e9, "at most total"),
    ],
)
def test_architecture_refuses_nonsense(field: str, value: float, message: str) -> None:
    values = {name: getattr(DEEPSEEK_V3, name) for name in FIELDS} | {field: value}
    with pytest.raises(InputError, match=message):
        MoeArchitecture(**values)
