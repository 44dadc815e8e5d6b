"""Every law in JAX's default float32, in a process of its own, against float64 here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import qsopt
from qsopt.quality import Calibrated, MoeArchitecture, calibrate, law, laws

NAMES = tuple(name for name in laws() if "clark" not in name or name == "clark-s-base")
"""Every law; one router of six, which differ in coefficients only."""
ARCHITECTURES = {
    "frontier": (671e9, 37e9, 669.1e9, 35.1e9, 256, 8, 1, 7168, 2048, 14.8e12),
    "edge": (30.5e9, 3.3e9, 29.9e9, 2.7e9, 128, 8, 0, 2048, 768, 36e12),
    "small": (3.5e9, 0.4e9, 3.4e9, 0.35e9, 64, 2, 1, 1024, 512, 50e9),
    "unreachable": (1e17, 1e15, 1e17, 1e15, 64, 1, 0, 8192, 8192, 1e12),
}


@eqx.filter_jit
def numbers(calibrated: Calibrated, seen: MoeArchitecture) -> dict[str, Any]:
    """What a law says of an architecture: value, slopes, status and distribution."""
    chosen, predicted = calibrated.law, calibrated.predict(seen)
    value, slopes = eqx.filter_value_and_grad(lambda each: jnp.log(chosen.q(each)))(seen)
    return {
        "log_q": value,
        "elasticities": jax.tree.leaves(jax.tree.map(lambda x, y: x * y, slopes, seen)),
        "status": chosen.match(seen).status,
        "log_mean": predicted.log_mean,
        "log_scale": predicted.log_scale,
    }


def measured(calibrated: Calibrated, kind: str) -> dict[str, Any]:
    """The same as plain numbers, with warnings."""
    architecture = MoeArchitecture(*ARCHITECTURES[kind])
    found = numbers(calibrated, jax.tree.map(jnp.asarray, architecture))
    plain = jax.tree.map(lambda each: each.tolist(), found)
    warnings = calibrated.law.warnings(architecture)
    return {"type": str(found["log_q"].dtype), "warnings": warnings, **plain}


def everything() -> dict[str, dict[str, Any]]:
    """All laws of all architectures."""
    return {
        f"{name} {kind}": measured(calibrated, kind)
        for name in NAMES
        for calibrated in [calibrate(law(name))]
        for kind in ARCHITECTURES
    }


@pytest.fixture(scope="module")
def single() -> dict[str, dict[str, Any]]:
    """Measured in float32, by the package that is tested here: one process has one precision."""
    environment = {**os.environ, "PYTHONPATH": str(Path(qsopt.__file__).parents[1])}
    environment.pop("JAX_ENABLE_X64", None)
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def double() -> dict[str, dict[str, Any]]:
    """Measured in the float64 of this process."""
    return everything()


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("name", NAMES)
def test_single_precision(
    single: dict[str, dict[str, Any]], double: dict[str, dict[str, Any]], name: str, kind: str
) -> None:
    found, expected = (each[f"{name} {kind}"] for each in (single, double))
    assert (found["type"], expected["type"]) == ("float32", "float64")
    for same in ("status", "warnings"):
        assert found[same] == expected[same]
    for close in ("log_q", "log_mean", "log_scale"):
        assert found[close] == pytest.approx(expected[close], rel=1e-4, abs=1e-4)
    assert found["elasticities"] == pytest.approx(expected["elasticities"], rel=2e-3, abs=1e-4)


if __name__ == "__main__":
    print(json.dumps(everything()))
