"""Weights of a device in start-up logs, with formats read from the checkpoint's own files: nothing
that a log says of formats is used.

Files of checkpoints that are not in the catalog stand in checkpoints.json, each with where it is
from: the `config.json` itself, the recipe that its maker published and made it with, or what its
maker says in words. Every one of the 62 logs is counted, or has its reason here.
"""

import csv
import json
import os
from functools import cache
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from qsopt.calibration.tables.names import model_name
from qsopt.catalog.accelerators import load_cluster
from qsopt.catalog.efficiencies import load_efficiency
from qsopt.catalog.folder import configs
from qsopt.catalog.huggingface import read_config
from qsopt.catalog.models import load_model
from qsopt.fitted.memory import memory_fit
from qsopt.physics.memory import memory
from qsopt.spec.deployment import Deployment
from qsopt.spec.efficiency import Efficiency
from qsopt.spec.formats import FORMATS, format_name
from qsopt.spec.model import Model
from qsopt.spec.service import Service
from qsopt.spec.workload import Workload
from qsopt.units import GiB

LOGS = (
    Path(
        os.environ.get(
            "QSOPT_MEASURED_SERVING",
            Path(__file__).parents[2].parent / "shared" / "measured_serving",
        )
    )
    / "memory.csv"
)

KNOWN = json.loads((Path(__file__).parent / "checkpoints.json").read_text("utf-8"))

NO_WEIGHTS = "i13 i26 s07 s11 t01 t02 t03 t04 t05 l01 l03 l06 l07"
"""Logs that do not say what weights take."""

NO_FILES = {
    "RedHatAI/Llama-4-Maverick-17B-128E-Instruct-FP8": "v02 v09",
    "RedHatAI/Qwen3.5-35B-A3B-FP8-dynamic": "v33",
    "cognitivecomputations/DeepSeek-R1-AWQ": "i10",
    "Qwen2.5-14B (TP2)": "i15",  # inferred by whoever wrote the table, from the size of its cache
}
"""Checkpoints of whose files nothing was found that says which modules stay wide."""

PADDED = "v25 v27"
"""Logs of Ministral 3 in fp8 on MI300X, where weights take 1.2 times what they do on H200 by a rule
that was not found.
"""

CATALOG = "config.json in the catalog"

AMD = "MI300X"

ROUNDED = {"nemotron-3-nano-30b-a3b": 128.0, "nemotron-3-super-120b-a12b": 128.0 * 1024 / 4096}
"""Models whose experts have no gate: in fp8, vLLM's kernels want a device's width of an expert to
be a multiple of 128 (vllm-project/vllm#33506). Experts of Super work in a latent of 1024 of 4096,
and stand in the model with as much less width.
"""


def checkpoint(name: str) -> tuple[Model, str] | None:
    """The model of a log's checkpoint and what is known of it, or None."""
    if name in KNOWN["checkpoints"]:
        return read(name), KNOWN["checkpoints"][name]["facts"]
    known = model_name(name)
    return None if known is None else (load_model(known), CATALOG)


@cache
def read(name: str) -> Model:
    entry = KNOWN["checkpoints"][name]
    config: dict = {}
    if "base" in entry:
        config = json.loads((configs() / "models" / f"{entry['base']}.json").read_text("utf-8"))
    config |= entry.get("config", {})
    scheme = dict(KNOWN["schemes"][entry["scheme"]]) if "scheme" in entry else {}
    scheme.pop("source", None)
    section = scheme | entry.get("quantization_config", {})
    return read_config(config | ({"quantization_config": section} if section else {}))


def server(row: dict) -> Efficiency:
    """What pads weights: nothing but the documented rules of vLLM for AMD and for experts without
    a gate.
    """
    efficiency = load_efficiency("ideal")
    if row["gpu"] == AMD:
        return memory_fit().applied(efficiency, "vllm", "mi300x")
    multiple = ROUNDED.get(model_name(row["model"]) or "")
    if multiple is None:
        return efficiency
    table = jnp.zeros(len(FORMATS)).at[FORMATS.index("fp8")].set(multiple)
    return eqx.tree_at(lambda e: e.memory.width_multiple, efficiency, table)


def weights(model: Model, row: dict) -> float:
    """Weights of a device of a log [byte]."""
    service = Service(load_cluster("16xb300"), Workload(1.0), server(row))
    layout = Deployment(tensor=int(row["tp"]), data=int(row["dp"]), expert=int(row["ep"]))
    return float(memory(model, service, layout).weights)


def counted(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Errors of the logs, by what is known of the checkpoint."""
    errors: dict[str, dict[str, float]] = {}
    unread = {one for names in NO_FILES.values() for one in names.split()}
    for row in rows:
        if row["id"] in NO_WEIGHTS.split():
            assert not row["weights_gib_per_gpu"] or row["weight_dtype"] == "params"
        elif row["id"] in unread:
            assert row["id"] in NO_FILES[row["model"]].split()
        elif row["id"] in PADDED.split():
            assert row["gpu"] == AMD
        else:
            found = checkpoint(row["model"])
            assert found is not None, row
            model, facts = found
            if facts == CATALOG:  # the log's own words serve as a check that it is this checkpoint
                assert row["weight_dtype"] == format_name(model.precision.experts), row
            error = weights(model, row) / (float(row["weights_gib_per_gpu"]) * GiB) - 1
            errors.setdefault(facts, {})[row["id"]] = error
    return errors


def largest(errors: dict[str, float]) -> float:
    return max(map(abs, errors.values()))


def test_formats_as_their_makers_give_them() -> None:
    formats = {name: format_name(read(name).precision.experts) for name in KNOWN["checkpoints"]}
    assert set(formats.values()) == {"bf16", "fp8", "fp8_block", "nvfp4"}
    kept = read("meta-llama/Meta-Llama-3.1-405B-Instruct-FP8").precision
    assert float(kept.attention.bytes) == 2.0
    assert float(kept.ffn.bytes) == pytest.approx(1.0 + 2 / 126)  # the first and the last layer


@pytest.mark.skipif(not LOGS.is_file(), reason="the start-up logs are not here")
def test_weights_of_released_checkpoints() -> None:
    rows = list(csv.DictReader(LOGS.read_text("utf-8").splitlines()))
    assert len(rows) == 62
    groups = counted(rows)
    assert {facts: len(group) for facts, group in groups.items()} == {
        CATALOG: 25,
        "config.json": 2,
        "recipe": 8,
        "words": 7,
    }
    of_amd = {row["id"] for row in rows if row["gpu"] == AMD}
    every = {one: error for group in groups.values() for one, error in group.items()}
    assert float(np.median(np.abs(list(every.values())))) < 0.006
    # SGLang said for these what memory was left, which more than weights had taken.
    assert every.pop("s06") == pytest.approx(-0.054, abs=0.002)
    assert every.pop("s09") == pytest.approx(-0.061, abs=0.002)
    amd = {one: every.pop(one) for one in of_amd & set(every)}
    assert len(amd) == 5
    assert largest(amd) < 0.026
    assert len(every) == 35
    assert largest(every) < 0.014
    assert largest({one: every[one] for one in every if one in groups["recipe"]}) < 0.005
    assert largest({one: every[one] for one in every if one in groups["words"]}) < 0.009
