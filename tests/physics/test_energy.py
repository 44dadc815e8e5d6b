"""Power and energy by hand, their limits, slopes, and the fit to made-up and to measured rows."""

import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.calibration.serving.joules import (
    EnergyRows,
    check_joules,
    predicted_joules,
    tokens_table,
)
from qsopt.calibration.serving.power import (
    PowerRows,
    check_power,
    power_errors,
    predicted_power,
    read_power,
    save_power,
)
from qsopt.calibration.tables.folder import read_folder
from qsopt.catalog.accelerators import load_cluster
from qsopt.errors import InputError
from qsopt.fitted.groups import load_calibration, shipped
from qsopt.fitted.power import (
    COLUMNS,
    PACE,
    STEP,
    ServedTokens,
    load_power,
    shipped_power,
    shipped_tokens,
)
from qsopt.physics.cost import cost_per_million
from qsopt.physics.energy import (
    PowerLaw,
    TokenLaw,
    busy_shares,
    energy,
    power_share,
    token_energy,
)
from qsopt.physics.roofline import Spent

LAW = PowerLaw(idle=0.4, memory=0.3, compute=0.6)
DATA = Path(
    os.environ.get(
        "QSOPT_MEASURED_SERVING", Path(__file__).parents[2].parent / "shared" / "measured_serving"
    )
)


def test_hand_worked() -> None:
    """8 H100 of 700 W, memory works half of the time and matrix units a tenth: 0.61 of the limit,
    427 W; 6 of 8 devices in use: 0.75 * 427 + 0.25 * 280 = 390.25 W.
    """
    cluster = load_cluster("8xh100")
    found = energy(cluster, LAW, 0.1, 0.5, used_devices=8.0, throughput=4000.0)
    assert float(found.watts_per_device) == pytest.approx(427.0)
    assert float(found.joules_per_token) == pytest.approx(427.0 * 8 / 4000)
    some = energy(cluster, LAW, 0.1, 0.5, used_devices=6.0, throughput=4000.0)
    assert float(some.watts_per_device) == pytest.approx(390.25)
    assert float(some.joules_per_token) == pytest.approx(390.25 * 8 / 4000)


def test_limits() -> None:
    assert float(power_share(LAW, 0.0, 0.0)) == pytest.approx(0.4), "idle"
    assert float(power_share(LAW, 1.0, 1.0)) == 1.0, "the limit"
    shares = np.linspace(0, 1, 11)
    for law in (LAW, shipped_power(STEP).law, shipped_power(PACE).law):
        by_memory = [float(power_share(law, 0.1, share)) for share in shares]
        by_compute = [float(power_share(law, share, 0.1)) for share in shares]
        assert np.all(np.diff(by_memory) >= 0)
        assert np.all(np.diff(by_compute) >= 0)
        assert max(by_memory + by_compute) <= 1.0
        smooth = [float(power_share(law, share, 0.1, softness=0.1)) for share in shares]
        assert np.all(np.asarray(smooth) <= np.asarray(by_compute) + 1e-12)
    nothing = energy(load_cluster("h100"), LAW, 0.0, 0.0, used_devices=1.0, throughput=0.0)
    assert np.isinf(float(nothing.joules_per_token))


def test_slopes_are_those_of_differences() -> None:
    cluster = load_cluster("8xh100")

    def joules(x: jax.Array) -> jax.Array:
        return energy(cluster, LAW, x[0], x[1], x[2], x[3]).joules_per_token

    point = jnp.array([0.2, 0.5, 6.0, 4000.0])
    slope = jax.jit(jax.grad(joules))(point)
    for place in range(4):
        step = 1e-3 * point[place] * jnp.eye(4)[place]
        rise = (joules(point + step) - joules(point - step)) / (2e-3 * point[place])
        np.testing.assert_allclose(slope[place], rise, rtol=1e-4)
    many = jax.vmap(joules)(jnp.stack([point, 1.1 * point]))
    np.testing.assert_allclose(many, [joules(point), joules(1.1 * point)], rtol=1e-6)
    assert np.all(np.isfinite(jax.grad(joules)(jnp.array([0.2, 0.5, 6.0, 0.0])))), "no throughput"


def test_shares_of_a_step() -> None:
    zero = jnp.zeros(2)
    spent = Spent(
        seconds=jnp.array([2.0, 2.0]),
        compute=jnp.array([1.0, 0.0]),
        memory=jnp.array([1.0, 2.0]),
        latency=zero,
        link=zero,
        flops=zero,
        bytes=zero,
    )
    compute, memory = busy_shares(spent)
    assert (float(compute), float(memory)) == (0.25, 0.75)


def test_cost_is_the_rental() -> None:
    """8 devices at 1.8 $/h cost 0.004 $/s: at 4,000 tokens/s one dollar per million."""
    assert float(cost_per_million(1.8, 8.0, 4000.0)) == pytest.approx(1.0)


def rows(law: PowerLaw, count: int = 240) -> PowerRows:
    generator = np.random.default_rng(0)
    step = np.exp(generator.normal(-4, 0.5, count))
    memory, compute = (
        step * generator.uniform(0.1, 0.9, count),
        step * generator.uniform(0, 0.5, count),
    )
    blank = PowerRows(
        power=np.ones(count),
        compute=compute,
        memory=memory,
        step=step,
        pace=1.4 * step,
        model=generator.choice(["a", "b", "c"], count),
        gpu=generator.choice(["x", "y"], count),
        backend=np.full(count, "vllm"),
        batch=np.full(count, 8.0),
        devices=np.ones(count),
        layers=np.ones(count),
        width=generator.integers(0, 3, count),
    )
    noise = np.exp(generator.normal(0, 0.02, count))
    power = predicted_power(blank, law) * noise
    return eqx.tree_at(lambda rows: rows.power, blank, power)


def test_constants_are_recovered(tmp_path: Path) -> None:
    made = rows(LAW)
    found = check_power(made)
    np.testing.assert_allclose(
        [found.law.idle, found.law.memory, found.law.compute], [0.4, 0.3, 0.6], rtol=0.06
    )
    assert found.errors["other_models"].n == 240
    assert all(found.errors[name].median < 0.03 for name in COLUMNS)
    path = tmp_path / "power.toml"
    save_power(made, "made up", path)
    again = load_power(path)
    np.testing.assert_allclose(float(again.law.idle), float(found.law.idle), rtol=1e-3)
    assert again.errors["fitted"].n == 240
    assert len(power_errors(path)) == 6
    slower = load_power(path, PACE).law
    np.testing.assert_allclose(float(slower.memory), 1.4 * float(found.law.memory), rtol=0.02)
    with pytest.raises(InputError, match="qsopt calibrate"):
        load_power(tmp_path / "none.toml")


def test_shipped_errors_are_of_all_rows() -> None:
    for of in (STEP, PACE):
        left = shipped_power(of).errors
        assert {left[name].n for name in COLUMNS} == {304}
        assert left["fitted"].median < left["other_models"].median < 0.15


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured data are not here")
def test_measured_rows_of_one_model_keep_the_shipped_errors() -> None:
    folder = read_folder(DATA)
    table = folder.power[0]
    one = table.where(table.text("model") == "Qwen3-32B")
    found = read_power(one, load_calibration(shipped()), folder.skipped)
    assert len(found.power) == 31
    for of, limit in ((STEP, 0.2), (PACE, 0.2)):
        error = np.abs(predicted_power(found, shipped_power(of).law, of) / found.power - 1)
        assert np.median(error) < limit, of


def test_energy_of_a_token() -> None:
    """By hand: 8 devices of 700 W, a step of 20 ms of which memory works 10 and matrix units 4, for
    100 tokens, and 50 us for each: 5,600 (0.5 20 + 0.2 10 + 1.5 4 = 18 ms)/100 + 0.28 J.
    """
    law = TokenLaw(step=0.5, memory=0.2, compute=1.5, sequence=50e-6)
    found = token_energy(law, 5600.0, 0.020, 0.004, 0.010, 100.0)
    assert float(found) == pytest.approx(5600 * 0.018 / 100 + 5600 * 50e-6)


def test_constants_of_a_token_are_recovered() -> None:
    law, made = ServedTokens(TokenLaw(0.6, 0.3, 0.9, 40e-6), (0.95, 1.1, 1.0)), rows(LAW)
    batch = np.exp(np.random.default_rng(1).uniform(0.0, 6.0, len(made.power)))
    made = eqx.tree_at(lambda rows: rows.batch, made, batch)
    blank = EnergyRows(batch, np.full_like(batch, 700.0), made)
    measured = eqx.tree_at(lambda rows: rows.joules, blank, predicted_joules(blank, law))
    found = check_joules(measured)
    for name in ("step", "memory", "compute", "sequence"):
        value, wanted = (float(getattr(one.law, name)) for one in (found.law, law))
        assert value == pytest.approx(wanted, rel=0.1)
    np.testing.assert_allclose(found.law.by_bits, law.by_bits, rtol=0.1)
    assert all(found.errors[name].median < 0.03 for name in COLUMNS)
    constants = {"step", "memory", "compute", "sequence_us", "by_bits"}
    assert set(tokens_table(found)) == {*constants, *COLUMNS}


def test_shipped_law_of_tokens() -> None:
    found = shipped_tokens()
    assert set(found.errors) == set(COLUMNS)
    assert found.errors["other_models"].median < 0.2
