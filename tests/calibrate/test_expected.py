import numpy as np
import pytest

from qsopt import load_model
from qsopt.catalog.accelerators import load_accelerator
from qsopt.catalog.efficiencies import efficiency_set
from qsopt.fitted import sets
from qsopt.fitted.errors import Errors
from qsopt.fitted.expected import (
    NORMAL_MEDIAN,
    SOFTWARE,
    Expectation,
    efficiency_for,
    expectation,
    served_set,
    shipped_calibration,
)
from qsopt.fitted.groups import AcceleratorFit, Calibration, FittedGroup
from qsopt.fitted.parameters import DEFAULTS
from qsopt.spec.formats import FORMATS

MODEL = load_model("mixtral-8x7b")


def group(kind: str, backend: str, dtype: str, held_out: float, own: float) -> FittedGroup:
    values = {"launch": 1e-6, "bandwidth": held_out}
    errors = {
        name: Errors(9, value, 3 * value, 0.0) for name, value in (("pool", held_out), ("own", own))
    }
    mine = {"h100": AcceleratorFit({**values, "bandwidth": own}, errors["own"])}
    return FittedGroup(
        kind,
        backend,
        dtype,
        values,
        values,
        values,
        errors["own"],
        errors["own"],
        Errors(9, 0.5 * (held_out + own), held_out + own, 0.0),
        errors["pool"],
        mine,
        {"hopper": values},
    )


CALIBRATION = Calibration("s", "1", "2026-01-01", (
    group("gemm", "trtllm", "bf16", 0.2, 0.05),
    group("gemm", "vllm", "bf16", 0.1, 0.06),
    group("experts", "trtllm", "bf16", 0.3, 0.1),
    group("experts", "trtllm-wide", "bf16", 0.01, 0.01),
    group("attention", "vllm", "bf16", 0.25, 0.15),
))  # fmt: skip


def test_errors_by_what_was_measured():
    own = expectation(MODEL, "h100", "trtllm", CALIBRATION)
    assert own.errors == {"gemm": 0.05, "experts": 0.1, "attention": 0.15}
    assert own.basis == "fitted on H100 trtllm bf16; pooled for attention"
    sibling = expectation(MODEL, "h200", "trtllm", CALIBRATION)
    assert sibling.errors == pytest.approx({"gemm": 0.125, "experts": 0.2, "attention": 0.2})
    assert sibling.basis == "no data for H200: taken for its generation, hopper, with trtllm"
    stranger = expectation(MODEL, "l40s", "trtllm", CALIBRATION)
    assert stranger.errors == pytest.approx({"gemm": 0.2, "experts": 0.3, "attention": 0.25})
    pooled = expectation(MODEL, "h100", None, CALIBRATION)
    assert pooled.errors == {
        "gemm": 0.2,
        "experts": 0.3,
        "attention": 0.25,
    }  # products of the software that has experts too
    assert pooled.errors == expectation(MODEL, "l40s", None, CALIBRATION).errors  # the same maker
    foreign = expectation(MODEL, "mi300x", None, CALIBRATION)
    assert foreign.errors == pytest.approx({"gemm": 0.6, "experts": 0.9, "attention": 0.75})
    assert foreign.basis.startswith("no data for MI300X")
    assert expectation(MODEL, None, None, CALIBRATION).errors == foreign.errors


def test_errors_of_operators_by_hand():
    told = Expectation("", {"gemm": 0.1, "experts": 0.2, "attention": 0.5})
    assert told.of_kernels == 0.2
    assert told.spreads()["gemm"] == pytest.approx(0.1 / NORMAL_MEDIAN)


def test_the_shipped_set_is_that_of_the_shipped_groups():
    """`fitted` is the pool of the software that carries over best, so that its errors are those
    told beside it.
    """
    made, fitted = (
        sets.efficiency(shipped_calibration(), None, None, efficiency_set("kernels")),
        efficiency_set("kernels"),
    )
    for kind in sets.KINDS:
        for name in ("launch", "bandwidth", "compute", "softness", "half_width", "half_batch"):
            np.testing.assert_allclose(
                getattr(getattr(made, kind), name), getattr(getattr(fitted, kind), name), rtol=2e-3
            )
    for tier in sets.TIERS:
        for name in ("bandwidth", "collective", "step", "ramp"):
            assert float(getattr(getattr(made, tier), name)) == pytest.approx(
                float(getattr(getattr(fitted, tier), name)), rel=2e-3
            )


@pytest.mark.parametrize("software", SOFTWARE)
def test_a_software_on_an_accelerator_takes_its_own_values(software: str):
    given = served_set(software, "h200")
    own = shipped_calibration().nearest("experts", software, "bf16").own["h200"].values
    bf16 = FORMATS.index("bf16")
    for name in ("launch", "bandwidth", "compute", "half_width"):
        assert float(getattr(given.experts, name)[bf16]) == pytest.approx({**DEFAULTS, **own}[name])
    told = expectation(MODEL, "h200", software).of_kernels
    assert 0.01 < told < 0.3
    assert told < expectation(MODEL, "mi300x").of_kernels


def test_mxfp4_experts_take_the_kernels_of_the_accelerator():
    """Those with fp8 activations where it computes so, of the software or of another."""
    groups = [
        group("experts", "trtllm", "bf16", 0.2, 0.21),
        group("experts", "trtllm", "mxfp4", 0.4, 0.41),
        group("experts", "trtllm", "w4a8_mxfp4_mxfp8", 0.5, 0.51),
        group("experts", "vllm", "mxfp4", 0.6, 0.61),
    ]
    calibration = Calibration("s", "1", "2026-01-01", tuple(groups))
    place = FORMATS.index("mxfp4")
    base = efficiency_set("kernels")

    def share(software: str | None, accelerator: str | None) -> float:
        found = sets.efficiency(calibration, software, accelerator, base)
        return float(found.experts.bandwidth[place])

    assert share("trtllm", "b200") == share("vllm", "b200") == pytest.approx(0.5)
    assert share("trtllm", "h100") == pytest.approx(0.41)
    assert share("vllm", "h200") == pytest.approx(0.6)
    assert share(None, None) == pytest.approx(0.4)


@pytest.mark.parametrize("name", ["fitted", *SOFTWARE])
def test_servers_hide_no_messages_unless_they_are_told_to(name: str):
    """While prompts are read; kernels alone read them as DeepSeek-V3's deployment does."""
    chip = load_accelerator("h200")
    assert float(efficiency_for(name, chip).prefill_overlap) == 0.0
    told = efficiency_for(name, chip, "prefill_overlap=0.9")
    kernels = efficiency_set("kernels")
    assert float(told.prefill_overlap) == float(kernels.prefill_overlap) == 0.9
