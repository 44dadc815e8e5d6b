"""`serve`: ranked plans, the front, closest plans and fewest devices, on small models; and the
constants of servers.
"""

import json
import math
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from serving_designs import cluster, efficiency, structure, with_reserve, workload

import qsopt
from qsopt import InputError, Workload
from qsopt.cli import main
from qsopt.fitted.server import known_server, load_server_fit, server_fit
from qsopt.serving.answer import Serving, serving
from qsopt.serving.devices import fewest_devices
from qsopt.serving.front import STEP, not_beaten
from qsopt.serving.given import ONE_POOL, best_given
from qsopt.serving.ranking import Option
from qsopt.serving.replica import Served
from qsopt.serving.ways import SEARCHED, asked, best_ways, layouts_of, lists
from qsopt.spec.efficiency import Server
from qsopt.spec.formats import FORMATS
from qsopt.spec.rules import PLAIN
from qsopt.spec.service import Service

LIMITS = {"ttft_limit": 0.05, "tpot_limit": 4e-3}


def service(**changes: float) -> Service:
    """Four devices of little memory."""
    small = eqx.tree_at(lambda c: c.accelerator.memory_bytes, cluster("4xh100"), np.asarray(2.15e9))
    lean = with_reserve(efficiency("kernels"), 1e9)
    return Service(small, workload(**{"prompt": 8192.0, **changes}), lean, PLAIN)


def question(**changes: float) -> Served:
    return jax.tree.map(np.asarray, asked(structure("gqa"), service(**changes)))


@cache
def answer() -> Serving:
    given = question(**LIMITS)
    return serving(given, *lists(layouts_of(given.model, given.service)), 10)


# ---- ranking -------------------------------------------------------------------------------------


def test_the_best_is_that_of_the_search_and_others_follow() -> None:
    given, found = question(**LIMITS), answer()
    best = best_ways(given.model, given.service)
    throughputs = [float(option.reached.throughput) for option in found.ranked]
    assert found.best is found.ranked[0]
    assert throughputs[0] == pytest.approx(float(best.throughput), rel=1e-9)
    assert throughputs == sorted(throughputs, reverse=True)
    assert len(throughputs) == 10
    assert all(bool(option.reached.feasible) for option in found.ranked)


def test_ranked_plans_differ_in_way_or_layout() -> None:
    keys = set()
    for option in answer().ranked:
        sizes = [
            tuple(
                float(getattr(layout, name))
                for name in layout.__dataclass_fields__
                if name != "batch"
            )
            for layout in (option.plan.decode, option.plan.prefill)
        ]
        keys.add((option.way, *sizes))
    assert len(keys) == 10


# ---- front ---------------------------------------------------------------------------------------


def test_no_point_of_the_front_beats_another() -> None:
    rates, speeds = (
        [float(getattr(option.reached, name)) for option in answer().front]
        for name in ("per_device", "per_user")
    )
    assert len(rates) > 3
    assert rates == sorted(rates, reverse=True)
    assert speeds == sorted(speeds)
    assert len(set(speeds)) == len(speeds)


def test_the_front_holds_the_best_plan_without_a_limit() -> None:
    given = question(ttft_limit=LIMITS["ttft_limit"])
    best = best_ways(given.model, given.service)
    first = answer().front[0].reached
    assert float(first.throughput) == pytest.approx(float(best.throughput), rel=1e-9)
    speeds = [float(option.reached.per_user) for option in answer().front]
    assert max(speeds) > speeds[0] / STEP


def test_beaten_points_are_left_out() -> None:
    def point(rate: float, speed: float) -> Option:
        return eqx.tree_at(
            lambda o: (o.reached.per_device, o.reached.per_user),
            answer().front[0],
            (np.asarray(rate), np.asarray(speed)),
        )

    points = [point(*pair) for pair in ((5, 1), (4, 2), (4, 1.5), (3, 2), (2, 4), (1, 3))]
    kept = [(float(p.reached.per_device), float(p.reached.per_user)) for p in not_beaten(points)]
    assert kept == [(5, 1), (4, 2), (2, 4)]


# ---- closest, given, fewest ----------------------------------------------------------------------


def test_where_nothing_keeps_the_limits_the_closest_is_shown() -> None:
    given = question(ttft_limit=1e-5, tpot_limit=1e-5)
    found = serving(given, *lists(layouts_of(given.model, given.service)), 3, False)
    assert not found.feasible
    assert found.best is None
    assert found.closest is not None
    reached = found.closest.reached
    assert bool(reached.fits_memory)
    assert not bool(reached.feasible)


def test_given_layouts_take_the_best_chunk() -> None:
    given = question(**LIMITS)
    layouts = layouts_of(given.model, given.service)
    one = jax.tree.map(lambda leaf: leaf[:1], layouts)
    best = best_given(given, one)
    ways = best_ways(given.model, given.service, ways=ONE_POOL)
    assert float(best.reached.throughput) <= float(ways.throughput) * (1 + 1e-9)
    whole = best_given(given, layouts)
    assert float(whole.reached.throughput) == pytest.approx(float(ways.throughput), rel=1e-9)
    batch = float(whole.plan.decode.batch)
    chosen = whole.plan.decode
    same = jax.tree.map(lambda leaf: np.asarray(leaf)[None], chosen)
    again = best_given(given, same, batch)
    assert float(again.reached.throughput) == pytest.approx(float(whole.reached.throughput))
    assert float(again.plan.decode.batch) == batch


def test_a_batch_that_breaks_a_limit_is_still_shown() -> None:
    given = question(**LIMITS)
    layouts = jax.tree.map(lambda leaf: leaf[:1], layouts_of(given.model, given.service))
    many = best_given(given, layouts, 1e6)
    assert not bool(many.reached.feasible)
    assert float(many.plan.decode.batch) == 1e6


def test_fewest_devices_serve_the_load_and_one_less_does_not() -> None:
    given = question(**LIMITS)
    every, groups = lists(layouts_of(given.model, given.service))
    best = answer().best
    assert best is not None
    load = float(best.reached.requests)
    whole = fewest_devices(given, every, groups, load * (1 - 1e-6))
    assert whole is not None
    assert whole.devices <= 4
    tenfold = fewest_devices(given, every, groups, 10.0 * load)
    assert tenfold is not None
    assert tenfold.devices >= 10 * (whole.devices - 3)
    little = fewest_devices(given, every, groups, 1e-6)
    # 1.34 GB of weights do not fit the 0.94 GB that one device has beside its reserve
    assert little is not None and little.devices == 2
    with pytest.raises(InputError, match="requests_per_s"):
        fewest_devices(given, every, groups, 0.0)


# ---- servers -------------------------------------------------------------------------------------


def test_what_servers_add_is_read_from_the_fit() -> None:
    fit = server_fit()
    one = fit.server("vllm")
    assert float(one.scale) == fit.scale["vllm"]
    pooled = fit.server("fitted")
    assert float(pooled.scale) == pytest.approx(np.mean(list(fit.scale.values())))
    places = [FORMATS.index(name) for name in ("mxfp4", "fp8_block", "bf16")]
    np.testing.assert_allclose(one.by_format[places], fit.by_bits["vllm"])
    steps = [fit.scale[name] * np.array(fit.by_bits[name]) for name in fit.scale]
    np.testing.assert_allclose(pooled.scale * pooled.by_format[places], np.mean(steps, axis=0))
    assert float(one.first_layer) == float(pooled.first_layer) == fit.first_layer
    assert float(one.host_layer) == float(pooled.host_layer) == fit.host_layer
    assert float(one.interference) == fit.interference
    assert known_server("fitted") and known_server("sglang")
    assert not known_server("ideal") and not known_server(None)
    for name in ("ideal", "kernels"):
        assert eqx.tree_equal(qsopt.load_efficiency(name).server, Server())
    assert float(qsopt.load_efficiency("vllm", "h100").server.scale) == fit.scale["vllm"]
    assert eqx.tree_equal(qsopt.load_efficiency("fitted").server, pooled)


def test_an_unreadable_fit_is_refused(tmp_path) -> None:
    path = tmp_path / "serving.toml"
    path.write_text("interference = 1\n")
    with pytest.raises(InputError, match="an entry is missing or wrong"):
        load_server_fit(path)


# ---- public --------------------------------------------------------------------------------------


def test_a_given_plan_is_a_function_of_numbers() -> None:
    """Under jit, grad and vmap, and the same as the search says of its best plan."""
    given, best = service(**LIMITS), answer().best
    assert best is not None
    reached = qsopt.serve(structure("gqa"), given, plan=best.plan, way=best.way)
    assert float(reached.throughput) == pytest.approx(float(best.reached.throughput), rel=1e-12)

    def throughput(prompt):
        there = eqx.tree_at(lambda s: s.workload.prompt, given, prompt)
        return qsopt.serve(structure("gqa"), there, plan=best.plan, way=best.way).throughput

    slope = float(jax.jit(jax.grad(throughput))(jnp.asarray(8192.0)))
    assert slope < 0.0
    both = jax.vmap(throughput)(jnp.asarray([8192.0, 1e4]))
    assert float(both[0]) == pytest.approx(float(reached.throughput), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"plan": None, "way": "mixed"}, "plan"),
        ({"top": 0}, "top"),
        ({"ways": ("magic",)}, "magic"),
    ],
)
def test_bad_questions_are_refused(change: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        qsopt.serve(structure("gqa"), service(), **change)


def test_decode_alone_is_no_request() -> None:
    with pytest.raises(InputError, match="prompt and an answer"):
        qsopt.serve("qwen3-30b-a3b", "1xh100", Workload(4096.0))


KEYS = {
    "way",
    "throughput_tokens_per_s",
    "tokens_per_s_per_device",
    "tokens_per_s_per_user",
    "requests_per_s",
    "ttft_s",
    "tpot_s",
    "end_to_end_s",
    "cost_per_million_output_tokens",
    "cost_per_million_input_tokens",
    "joules_per_output_token",
    "watts_per_device",
    "command",
    "prefill",
    "decode",
    "intervals",
}


@pytest.fixture
def asked_of(capsys):
    def printed(*words: str) -> dict:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return printed


def test_the_command_answers_with_what_others_rely_on(asked_of, tmp_path) -> None:
    words = ["serve", "--model", "olmoe-1b-7b", "--cluster", "1xh100"]
    words += ["--prompt", "2048", "--answer", "256"]
    path = tmp_path / "front.csv"
    record = asked_of(*words, "--tpot-ms", "30", "--top", "3", "--plot", str(path))
    assert record["feasible"] is True
    assert record["violations"] == []
    assert [row["way"] for row in record["ranked"]] == ["mixed", "alternating"]  # of one layout
    assert record["best"] == record["ranked"][0]
    best = record["best"]
    assert set(best) >= KEYS
    assert {"deployment", "in_words", "batch", "devices"} <= set(best["prefill"])
    assert best["decode"]["devices"] == 1
    assert best["tpot_s"] <= 0.03
    assert best["end_to_end_s"] == pytest.approx(best["ttft_s"] + 255 * best["tpot_s"])
    assert best["requests_per_s"] * 256 == pytest.approx(best["throughput_tokens_per_s"])
    rate = best["tokens_per_s_per_device"]
    assert best["joules_per_output_token"] == pytest.approx(best["watts_per_device"] / rate)
    batch = best["decode"]["batch"]
    assert best["command"].startswith("vllm serve olmoe-1b-7b --tensor-parallel-size 1 ")
    assert f"--max-num-seqs {batch} " in best["command"]
    assert "--max-model-len 2304 " in best["command"]
    low, high = best["intervals"]["tpot_s"]["80"]
    assert low < best["tpot_s"] < high
    price = float(qsopt.load_cluster("1xh100").accelerator.price_per_hour)
    if math.isfinite(price):
        expected = price / 3600 / best["tokens_per_s_per_device"] * 1e6
        assert best["cost_per_million_output_tokens"] == pytest.approx(expected)
    for point in record["pareto"]:
        assert {"way", "decode", "prefill", "tokens_per_s_per_user"} <= set(point)
    assert len(path.read_text().splitlines()) == 1 + len(record["pareto"])


def test_evaluate_answers_on_requests(asked_of) -> None:
    words = ["evaluate", "--model", "olmoe-1b-7b", "--cluster", "1xh100"]
    alone = asked_of(*words, "--context", "2176", "--tp", "1", "--batch", "32")
    record = asked_of(*words, "--prompt", "2048", "--answer", "256", "--tp", "1", "--batch", "32")
    assert alone["question"] == "decode"
    assert record["question"] == "request"
    assert record["way"] in SEARCHED
    assert record["decode_alone"]["tpot_s"] == pytest.approx(alone["tpot_s"])
    assert record["tpot_s"] > alone["tpot_s"]
    assert record["ttft_s"] > 0.0
    assert record["end_to_end_s"] == pytest.approx(record["ttft_s"] + 255 * record["tpot_s"])
    assert record["deployment"]["batch"] == 32


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ("serve --model olmoe-1b-7b --cluster 1xh100 --context 100", "decode alone"),
        ("serve --model olmoe-1b-7b --cluster 1xh100 --prompt 100", "prompt and an answer"),
        ("serve --model olmoe-1b-7b --cluster 1xh100", "--prompt"),
        ("evaluate --model olmoe-1b-7b --cluster 1xh100 --context 9 --cached 0.5", "cached"),
    ],
)
def test_bad_words_are_refused(words: str, word: str, capsys) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1
