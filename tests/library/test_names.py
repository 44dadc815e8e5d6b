"""One door for names: what the command line takes by name, every public function takes by name, by
record, and in one record.
"""

import equinox as eqx
import jax
import numpy as np
import pytest

import qsopt
from qsopt.api.names import as_service
from qsopt.catalog.accelerators import accelerator_name, accelerator_names, resized
from qsopt.fitted.expected import SOFTWARE, served_set
from qsopt.record import name_of
from qsopt.report.inquiry import Inquiry

NAME, PHRASE, WORKLOAD = "mixtral-8x7b", "2xh200", qsopt.Workload(8192.0)
LAYOUT = qsopt.Deployment(tensor=2, expert=2, batch=64)
MODEL, CLUSTER = qsopt.load_model(NAME), qsopt.load_cluster(PHRASE)


def same(one: object, other: object) -> bool:
    return bool(eqx.tree_equal(one, other))


@pytest.mark.parametrize("software", SOFTWARE)
def test_a_software_is_an_efficiency_set_on_an_accelerator(software: str) -> None:
    expected = served_set(software, "h200")
    for place in ("h200", "8xh200", CLUSTER, CLUSTER.accelerator):
        assert same(qsopt.load_efficiency(software, place), expected)
    assert not same(qsopt.load_efficiency(software, "h100"), expected)


def test_a_software_without_its_accelerator_is_refused_with_the_remedy() -> None:
    with pytest.raises(qsopt.InputError, match=r"load_efficiency\('trtllm', 'h100'\)"):
        qsopt.load_efficiency("trtllm")
    with pytest.raises(qsopt.InputError, match="unknown accelerator"):
        qsopt.load_efficiency("trtllm", "8xh101")


def test_a_software_on_a_traced_accelerator_is_refused_with_the_remedy() -> None:
    def tpot(bandwidth: jax.Array) -> jax.Array:
        cluster = eqx.tree_at(lambda c: c.accelerator.bandwidth, CLUSTER, bandwidth)
        return qsopt.evaluate(MODEL, cluster, WORKLOAD, LAYOUT, "trtllm").tpot

    with pytest.raises(qsopt.InputError, match="load the efficiency set before"):
        jax.grad(tpot)(4.8e12)


def test_an_accelerator_is_known_by_its_numbers() -> None:
    for name in accelerator_names():
        chip = qsopt.load_accelerator(name)
        assert accelerator_name(chip) == name
        assert (
            accelerator_name(eqx.tree_at(lambda a: a.price_per_hour, chip, np.float64(9))) == name
        )
        wider = eqx.tree_at(lambda a: a.bandwidth, chip, chip.bandwidth * 1.01)
        assert accelerator_name(wider) is None


def test_one_that_is_changed_takes_pooled_values() -> None:
    wider = eqx.tree_at(lambda c: c.accelerator.bandwidth, CLUSTER, np.float64(5e12))
    found = qsopt.load_efficiency("trtllm", wider)
    assert same(found, served_set("trtllm", None))


def test_a_larger_cluster_is_read_anew() -> None:
    assert same(resized(CLUSTER, 64), qsopt.load_cluster("64xh200"))


def test_names_and_records_give_the_same_answers() -> None:
    efficiency = qsopt.load_efficiency("vllm", PHRASE)
    service = qsopt.Service(CLUSTER, WORKLOAD, efficiency)
    answers = [
        qsopt.evaluate(NAME, PHRASE, WORKLOAD, LAYOUT, "vllm"),
        qsopt.evaluate(MODEL, CLUSTER, WORKLOAD, LAYOUT, efficiency),
        qsopt.evaluate(MODEL, service, LAYOUT),
        qsopt.evaluate(MODEL, service=service, deployment=LAYOUT),
        qsopt.evaluate(
            model=NAME, cluster=PHRASE, workload=WORKLOAD, deployment=LAYOUT, efficiency="vllm"
        ),
    ]
    assert all(same(one, answers[0]) for one in answers)
    prompts = [
        qsopt.prefill(NAME, PHRASE, WORKLOAD, LAYOUT, "vllm"),
        qsopt.prefill(MODEL, service, LAYOUT),
    ]
    assert same(*prompts)


def test_comparisons_take_names_records_and_laws() -> None:
    service = qsopt.Service(CLUSTER, WORKLOAD, qsopt.load_efficiency("trtllm", "h200"))
    q = qsopt.belief(NAME, "ludziejewski", 1e12).q
    ratios = [
        qsopt.compare(NAME, PHRASE, WORKLOAD, "trtllm", law="ludziejewski", tokens=1e12).ratio,
        qsopt.compare(MODEL, service, law=qsopt.law("ludziejewski"), tokens=1e12).ratio,
        qsopt.compare(MODEL, service=service, q=q).ratio,
    ]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)


def test_laws_find_the_training_tokens_of_the_catalog() -> None:
    known = qsopt.belief("deepseek-v3", "tian")
    assert known.q == qsopt.belief("deepseek-v3", "tian", 14.8e12).q
    nameless = jax.tree.map(lambda leaf: leaf, qsopt.load_model("deepseek-v3"))
    with pytest.raises(qsopt.InputError, match="training tokens"):
        qsopt.belief(nameless, "tian")


def test_what_is_missing_is_named() -> None:
    service = qsopt.Service(CLUSTER, WORKLOAD, qsopt.ideal())
    for ask, words in (
        (lambda: qsopt.evaluate(NAME, service), "deployment"),  # pyright: ignore[reportCallIssue]
        (lambda: qsopt.compare(NAME, PHRASE), "workload"),  # pyright: ignore[reportCallIssue, reportArgumentType]
        (lambda: qsopt.compare(NAME, service, WORKLOAD), "not both"),  # pyright: ignore[reportCallIssue, reportArgumentType]
        (lambda: qsopt.compare("mixtral", service), "did you mean"),
        (lambda: qsopt.compare(NAME, "8xh101", WORKLOAD), "unknown accelerator"),
        (lambda: qsopt.compare(NAME, service, law="tien"), "tian"),
        (lambda: qsopt.compare(NAME, PHRASE, WORKLOAD, "vlm"), "efficiency set"),
    ):
        with pytest.raises(qsopt.InputError, match=words):
            ask()


def test_names_stand_beside_the_numbers_and_go_with_a_change() -> None:
    assert name_of(MODEL) == NAME
    changed = eqx.tree_at(lambda m: m.hidden, MODEL, np.float64(2048))
    assert name_of(changed) is None
    assert jax.tree.structure(changed) == jax.tree.structure(MODEL)
    inquiry = Inquiry(MODEL, as_service(CLUSTER, WORKLOAD, "fitted"))
    assert (inquiry.model_name, inquiry.cluster_name) == (NAME, PHRASE)
    assert inquiry.efficiency_name == "fitted"
