"""What a page rests on, and how it is cited."""

from typing import Any

import jax
import numpy as np

from qsopt.catalog.accelerators import hardware_facts
from qsopt.catalog.models import model_facts, model_names
from qsopt.errors import InputError
from qsopt.fitted.groups import load_calibration, shipped
from qsopt.record import name_of
from qsopt.report.inquiry import Inquiry
from qsopt.version import __version__

PAPER = """@article{adhinarayanan2026qs,
  title = {The qs Inequality: Quantifying the Double Penalty of Mixture-of-Experts at Inference},
  author = {Adhinarayanan, Vignesh and Jayasena, Nuwan},
  journal = {arXiv preprint arXiv:2603.08960},
  year = {2026},
  url = {https://arxiv.org/abs/2603.08960}
}"""


def bibtex() -> str:
    """Entries for qsopt and for the paper that it grew from."""
    software = f"""@software{{qsopt,
  title = {{qsopt: where Mixture-of-Experts beats or loses to dense at inference}},
  author = {{{{The qsopt developers}}}},
  version = {{{__version__}}},
  year = {{2026}},
  license = {{Apache-2.0}},
  url = {{https://github.com/qsopt/qsopt}}
}}"""
    return f"{software}\n\n{PAPER}\n"


def provenance_rows(inquiry: Inquiry, record: dict[str, Any]) -> list[dict[str, str]]:
    """What each part of an answer rests on, in words."""
    rows = [
        {"what": "qsopt", "rests_on": f"version {__version__}; JAX {jax.__version__}"},
        *_models(inquiry),
        *_hardware(inquiry),
        {"what": "efficiency set", "rests_on": _set(inquiry)},
        {"what": "size of the dense model", "rests_on": _law(inquiry, record)},
    ]
    return [row for row in rows if row["rests_on"]]


def _models(inquiry: Inquiry) -> list[dict[str, str]]:
    names = [inquiry.model_name, name_of(inquiry.named)]
    rows = []
    for name in names:
        if name is None:
            continue
        text = "the user's own config"
        if name.lower() in model_names():
            facts = model_facts(name.lower())
            text = "; ".join(part for part in (facts.config_source, facts.source) if part)
        rows.append({"what": f"model {name}", "rests_on": text})
    return rows


def _hardware(inquiry: Inquiry) -> list[dict[str, str]]:
    if inquiry.accelerator is None:
        return [{"what": "hardware", "rests_on": "the user's own figures"}]
    try:
        facts = hardware_facts(inquiry.accelerator)
    except InputError:
        return []
    chip = inquiry.service.cluster.accelerator
    figures = f"{float(chip.memory_bytes) / 1e9:.1f} GB at {float(chip.bandwidth) / 1e12:.3g} TB/s"
    parts = (figures, facts.source, facts.doubt and f"doubt: {facts.doubt}", facts.collected)
    return [{"what": f"hardware {facts.name}", "rests_on": "; ".join(str(p) for p in parts if p)}]


def _set(inquiry: Inquiry) -> str:
    name = inquiry.efficiency_name
    if inquiry.expectation() is None:
        return f"{name or 'own'}: a bound or the user's own values, without known errors"
    fitted = load_calibration(shipped())
    return f"{name}: fitted to {fitted.source}, {fitted.date}"


def _law(inquiry: Inquiry, record: dict[str, Any]) -> str:
    q = float(np.asarray(record["q"]))
    if inquiry.named is not None:
        return f"q = {q:.2f}, that of the dense model that was named"
    if inquiry.q is not None:
        return f"q = {q:.2f}, as stated"
    law = inquiry.quality_law
    return f"q = {q:.2f} by the law '{law.name}': {law.source}"
