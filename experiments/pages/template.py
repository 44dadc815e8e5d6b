"""Pages as Markdown templates: the text and the heads of tables stand in `templates/*.md`, Python
gives the numbers.

A template is Jinja2 (https://jinja.palletsprojects.com). Its own filters: `number` formats by a
Python format, `percent` so in percent, `figures` to three figures; `share`, `times` and `tokens`
write a number as people say it, `name` and `cluster` what a key stands for; `paragraph` fills
lines. A number that is not given is an error; one that does not exist is a dash.
"""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.framework.style import cluster_name, display_name
from qsopt.report.plot import tokens_text

TEMPLATES = Path(__file__).parent / "templates"
WIDTH = 125
"""Of a filled line [characters]."""
MISSING = "-"
"""In the place of a number that does not exist."""


def render(template: str, **numbers: Any) -> str:
    """The text of a template with these numbers.

    Raises:
        jinja2.UndefinedError: if the template names a number that is not given.
    """
    return _environment().get_template(template).render(**numbers)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,  # a line that only holds a statement leaves no line behind
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (number, percent, figures, share, times, tokens, reach, paragraph)
    environment.filters |= {function.__name__: function for function in filters}
    environment.filters |= {"name": display_name, "cluster": cluster_name}
    return environment


def number(value: float | None, pattern: str) -> str:
    """A number in a Python format such as `.2f`, a dash where there is none."""
    return MISSING if value is None else format(value, pattern)


def percent(share: float, pattern: str = ".1f") -> str:
    """A share in percent, without the sign."""
    return format(100.0 * share, pattern)


def figures(value: float | None) -> str:
    """A number to three figures, or to whole numbers beyond a thousand."""
    return number(value, ".3g" if value is None or value < 1000 else ",.0f")


def times(ratio: float | None) -> str:
    """A ratio of throughputs, to two or three figures."""
    if ratio is None:
        return MISSING
    return f"{ratio:.1f}x" if ratio >= 10.0 else f"{ratio:.2f}x"


def share(value: float | None) -> str:
    """A share in whole percent; not 100 % unless it is all, nor 0 % unless none."""
    if value is None:
        return MISSING
    rounded = round(100.0 * value)
    if rounded == 100 and value < 1.0:
        return ">99%"
    return "<1%" if rounded == 0 and value > 0.0 else f"{rounded}%"


def tokens(value: float) -> str:
    """A context length as people say it, to two figures unless it is near a power of two."""
    power = 2.0 ** round(np.log2(value))
    if abs(np.log2(value / power)) < 0.1:
        return tokens_text(power)
    size = next(size for size in (2.0**20, 2.0**10, 1.0) if value >= size)
    return tokens_text(float(f"{value / size:.2g}") * size)


def reach(value: float | None) -> str:
    """A number of tokens, a dash where there is none."""
    return MISSING if value is None else tokens(value)


def paragraph(text: str) -> str:
    """Sentences as filled lines; ends in a newline, as the end of the block swallows its own."""
    words = " ".join(text.split())
    return textwrap.fill(words, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"
