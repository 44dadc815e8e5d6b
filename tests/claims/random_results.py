"""Results of all experiments with the form of real ones and random numbers, for tests of pages."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.framework import study
from experiments.framework.pieces import Row
from experiments.paper import (
    context_claim,
    deepseek_claim,
    predictor_scores,
    qs_predictor,
    real_stacks,
    reuse,
    switch_claim,
)
from experiments.regimes import hardware_for_moe, phase_maps, sparsity, sparsity_gradients
from qsopt.comparison.compare import verdict
from qsopt.quality import BAND

Random = np.random.Generator


def random_results(folder: Path, random: Random, measured: bool = True) -> None:
    """Write a record and pictures for each experiment that the findings page reads."""
    makers = {
        deepseek_claim: _headline,
        context_claim: _contexts,
        switch_claim: _switch,
        reuse: _reuse,
        qs_predictor: _predictor,
        phase_maps: _maps,
        sparsity_gradients: _sparsity,
        hardware_for_moe: _hardware,
    } | ({real_stacks: _stacks} if measured else {})
    for module, make in makers.items():
        name = module.__name__.rpartition(".")[2]
        settings = study.defaults(module.Settings, name)
        rows, more = make(settings, random)
        inputs = {key: getattr(settings, key) for key in settings.__dataclass_fields__}
        record = {"inputs": inputs, **more, "rows": rows}
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.json").write_text(json.dumps(record))
        pictures = [name, *more.get("pictures", [])]
        for picture in pictures:
            (folder / name / f"{picture}.png").touch()


def _sides(random: Random) -> Row:
    """Both sides at one point, either infeasible at times."""
    moe, dense = np.exp(random.normal(size=2)) * (random.random(2) > 0.1)
    ratio = float(dense / moe) if moe and dense else None
    return {"verdict": verdict(float(moe), float(dense)), "ratio": ratio}


def _maybe(random: Random, value: float) -> float | None:
    return None if random.random() < 0.2 else value


def _places(**values: Sequence[Any]) -> list[Row]:
    """All combinations."""
    rows: list[Row] = [{}]
    for name, options in values.items():
        rows = [row | {name: option} for row in rows for option in options]
    return rows


def _headline(settings: Any, random: Random) -> tuple[list[Row], Row]:
    laws = {law: random.uniform(1.0, 10.0) for law in deepseek_claim.LAWS}
    rows = _places(
        accelerator=settings.accelerators,
        devices=settings.devices,
        precision=settings.precisions,
        efficiency=settings.efficiencies,
        law=list(laws),
    )
    return [
        row
        | _sides(random)
        | {"q": laws[row["law"]], "q_of_claim": _maybe(random, random.uniform(0.0, 2.0))}
        for row in rows
    ], {}


def _contexts(settings: Any, random: Random) -> tuple[list[Row], Row]:
    rows = _places(
        model=settings.models,
        cluster=settings.clusters,
        efficiency=settings.efficiencies,
        context=np.geomspace(settings.contexts[0], settings.contexts[1], 5).tolist(),
        law=[settings.law, "low", "high"],
    )
    return [row | _sides(random) | {"q": 2.0} for row in rows], {}


def _switch(settings: Any, random: Random) -> tuple[list[Row], Row]:
    rows = []
    for place in _places(
        accelerator=settings.accelerators,
        precision=settings.precisions,
        efficiency=settings.efficiencies,
    ):
        devices = {
            "dense_devices": int(random.integers(1, 9)),
            "moe_devices": int(random.integers(1, 99)),
            "qs": random.random(),
        }
        rows += [
            place | devices | {"multiple": multiple} | _sides(random)
            for multiple in settings.multiples
        ]
    return rows, {}


def _reuse(settings: Any, random: Random) -> tuple[list[Row], Row]:
    rows = _places(
        model=settings.models,
        context=settings.contexts,
        limit=[1.0, float(settings.most_sequences)],
    )
    numbers = [
        f"{side}_{name}"
        for side in ("moe", "dense")
        for name in ("tokens_per_read", "compute_over_memory")
    ]
    return [
        row | _sides(random) | {name: random.lognormal() for name in numbers} for row in rows
    ], {}


def _predictor(settings: Any, random: Random) -> tuple[list[Row], Row]:
    rows = []
    for _ in range(300):
        scenario = {
            "model": f"model-{random.integers(9)}",
            "variation": 0,
            "accelerator": str(random.choice(settings.accelerators)),
            "devices": int(random.choice(settings.devices)),
            "context": 2.0 ** random.integers(10, 19),
            "cap": _maybe(random, 2.0 ** random.integers(0, 13)),
            "efficiency": str(random.choice(settings.efficiencies)),
            "regime": str(random.choice(predictor_scores.REGIMES)),
        }
        for law in (*BAND, "free"):
            terms = {name: float(random.lognormal()) for name in predictor_scores.TERMS}
            row = scenario | terms | _sides(random) | {"law": law}
            if row["verdict"] != "both infeasible":
                rows.append(row)
    return rows, {"scores": {"fitted": predictor_scores.all_scores(rows, "fitted")}}


def _maps(settings: Any, random: Random) -> tuple[list[Row], Row]:
    sets = [settings.efficiency, "ideal"] if random.random() < 0.7 else [settings.efficiency]
    rows = [
        row | {"x": x, "y": y}
        for x, y in settings.pairs
        for row in _places(
            model=settings.models, accelerator=settings.accelerators, efficiency=sets
        )
    ]
    shares = [
        f"share_{name.replace(' ', '_')}" for name in ("dense wins", "moe wins", "moe infeasible")
    ]
    shares += [
        "share_unsure",
        "qs_calls_it_right",
        "share_verdict_differs_from_drawn",
        "ratio_median",
    ]
    sometimes = {"share_unsure", "qs_calls_it_right", "ratio_median"}
    pictures = [f"{x}_{y}_{settings.models[0]}" for x, y in settings.pairs]
    return [
        row
        | {
            name: _maybe(random, random.random()) if name in sometimes else random.random()
            for name in shares
        }
        for row in rows
    ], {"pictures": pictures}


def _sparsity(settings: Any, random: Random) -> tuple[list[Row], Row]:
    slopes = (*(f"s_{way}" for way in sparsity.WAYS), *sparsity.INPUTS)
    rows = [
        {
            "feasible": bool(random.random() < 0.9),
            "s": random.random(),
            "best_s_fixed_quality": random.random(),
            **{name: random.normal() for name in slopes},
            "s_fixed_quality": _maybe(random, random.normal()),
        }
        for _ in range(40)
    ]
    return rows, {"pictures": ["sparsity_curves"]}


def _hardware(settings: Any, random: Random) -> tuple[list[Row], Row]:
    rows = _places(
        model=settings.models,
        cluster=settings.clusters,
        context=settings.contexts,
        input=settings.inputs,
    )
    return [
        row
        | {
            "verdict_own": _sides(random)["verdict"],
            "moe_wins_above_own_times": _maybe(random, random.lognormal()),
            "elasticity_of_ratio": None if row["input"] == "domain" else random.normal(),
        }
        for row in rows
    ], {}


def _stacks(settings: Any, random: Random) -> tuple[list[Row], Row]:
    rows = []
    for moe, dense in (("mixtral-8x7b", "qwen3-32b"), ("gpt-oss-120b", "qwen3-32b")):
        law_q = random.uniform(1.0, 4.0)
        q = law_q * random.uniform(0.5, 2.0)
        pair = {
            "moe": moe,
            "dense": dense,
            "precisions": "fp4 / as published",
            "q": q,
            "qs": q * 0.1,
            "law_q": law_q,
            "law_q_low": 0.8 * law_q,
            "law_q_high": 1.3 * law_q,
            "size_over_match": q / law_q,
        }
        rows += [
            pair
            | {
                "prompt": 1024.0,
                "answer": 512.0,
                "measured_ratio": random.lognormal(),
                "predicted_ratio": random.lognormal(),
            }
            for _ in range(3)
        ]
    # one on either side of a match
    rows += [rows[0] | {"dense": "small", "size_over_match": 0.1}]
    rows += [rows[0] | {"dense": "large", "size_over_match": 9.0}]
    return rows, {"agreement": real_stacks.agreement(rows)}
