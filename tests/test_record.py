"""Names and answers beside records: JAX sees the numbers only."""

import gc

import jax
import numpy as np

import qsopt
from qsopt import record


def test_a_name_does_not_change_the_structure_of_a_record() -> None:
    model = qsopt.load_model("mixtral-8x7b")
    changed = jax.tree.map(lambda leaf: leaf, model)
    assert (record.name_of(model), record.name_of(changed)) == ("mixtral-8x7b", None)
    assert jax.tree.structure(model) == jax.tree.structure(changed)
    both = jax.tree.map(lambda *leaves: np.stack(leaves), model, changed)
    assert both.hidden.shape == (2,)


def test_a_name_goes_with_its_record() -> None:
    known = len(record._NAMES)
    cluster = record.named(qsopt.Workload(1024.0), "a workload")
    assert len(record._NAMES) == known + 1
    assert record.name_of(cluster) == "a workload"
    del cluster
    gc.collect()
    assert len(record._NAMES) == known
