"""The record of a page as one HTML file that a browser shows without a network.

Charts are drawn by Vega-Lite, whose code stands in the file (see `charts`); everything else is text
and tables.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from qsopt.errors import InputError
from qsopt.files import write_text
from qsopt.report.page.charts import asked_place, charts, label_of_share, label_of_size
from qsopt.report.page.tables import (
    error_table,
    facts,
    launch_blocks,
    limit_table,
    provenance_table,
    tables,
)
from qsopt.report.records import csv_text
from qsopt.version import __version__

_HERE = Path(__file__).parent

VEGA_LITE = "6.4"
"""Version of the charts' language."""

_LINE = (
    "Throughput of the dense side over that of the MoE, each in its best way of serving, with the "
    "central 80 % of what is expected of a measurement. Hollow points lie beyond the context of "
    "the MoE's config, where nobody can say what its answers are worth."
)

LINES = {
    "line-context": ("Ratio over the context, decode alone", _LINE),
    "line-prompt": ("Ratio over the length of prompts", _LINE),
    "line-answer": ("Ratio over the length of answers", _LINE),
}
"""Headings and words of figures by their charts."""

CAUSES = {
    "penalties": (
        "What makes the ratio",
        "Factors by cause, averaged over the orders in which causes are switched off; both sides "
        "are optimised anew each time.",
    ),
    "operators": (
        "Where the time of a decode step goes",
        "Device time per output token, operator by operator.",
    ),
}
"""The same of the causes of a ratio."""

LIMITS = (
    "Longest time to the first token (TTFT) and per output token (TPOT); both sides in their best "
    "way under each."
)

ERRORS = "What each error alone would make of the ratio: central 80 %."

GRID = (
    "Numbers are throughput, dense over MoE. q is the size of the dense model over the active "
    "parameters of the MoE; layouts are those that are best at the question and at the corners."
)


def check_library() -> None:
    """Refuse a page where what draws it is not installed, before anything is computed.

    Raises:
        InputError: with what to install.
    """
    try:
        import vl_convert  # noqa: F401, PLC0415  (an extra)
    except ImportError:
        raise InputError(
            "a report is drawn by Vega-Lite, and vl-convert-python is not installed: pip install "
            "'qsopt[report]'"
        ) from None


def write_page(record: dict[str, Any], path: Path) -> None:
    """Write the page of a record.

    Raises:
        InputError: if what draws it is not installed, or the file cannot be written.
    """
    check_library()
    write_text(path, page_html(record))


def page_html(record: dict[str, Any]) -> str:
    """The page as text."""
    from vl_convert import javascript_bundle  # noqa: PLC0415  (an extra, slow to import)

    drawn = charts(record)
    first, _, rest = record["verdict"].partition(". ")
    first += "." if rest else ""
    bundle = javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    template = Template((_HERE / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{record['model']} on {record['cluster']}"),
        css=(_HERE / "page.css").read_text(encoding="utf-8"),
        asked=escape(_asked(record)),
        verdict=escape(first),
        turns=f"<p>{escape(rest)}</p>" if rest else "",
        facts=facts(record),
        sections="\n".join(_sections(record, drawn)),
        version=__version__,
        library=bundle.replace("</script", "<\\/script"),
        charts=_json(drawn),
        labels=_json(_labels(record)),
        record=_json(record),
        script=(_HERE / "page.js").read_text(encoding="utf-8"),
    )


def _json(value: object) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _asked(record: dict[str, Any]) -> str:
    dense = record["dense"] or "its dense match"
    return f"{record['model']} against {dense} on {record['cluster']}"


def _labels(record: dict[str, Any]) -> dict[str, list[str]]:
    """What the stops of both sliders are called."""
    grid = record["grid"]
    if grid is None:
        return {}
    return {
        "q_index": [label_of_size(size) for size in grid["q"]],
        "cached_index": [label_of_share(share) for share in grid["cached"]],
    }


# ---- sections ------------------------------------------------------------------------------------


def _sections(record: dict[str, Any], drawn: dict[str, Any]) -> Iterable[str]:
    """In the order in which they are read."""
    downloads = {name: _download(name, rows) for name, rows in tables(record).items()}
    beside = _beside(record)

    def figures(words: dict[str, tuple[str, str]]) -> str:
        kept = {name: said for name, said in words.items() if name in drawn}
        return _pair(
            _figure(head, said + (beside if name == "line-answer" else ""), name, downloads)
            for name, (head, said) in kept.items()
        )

    yield figures(LINES)
    if "grid" in drawn:
        yield _grid(record, downloads)
    yield figures(CAUSES)
    if record["limits"]:
        table = limit_table(record["limits"]) + downloads["limits"]
        body = table + launch_blocks(record["limits"])
        yield _section("Under limits on both times", LIMITS + beside, body)
    if "errors" in drawn:
        body = _chart("errors") + downloads["errors"] + error_table(record)
        yield _section("Which errors make the interval", ERRORS, body)
    yield _section("What this rests on", "", provenance_table(record["provenance"]))
    yield _section("Ask again", "", f"<pre>{escape(record['command'])}</pre>")
    yield _section("Cite", "", f"<pre>{escape(record['bibtex'])}</pre>")


def _beside(record: dict[str, Any]) -> str:
    """Of a page about decode alone: that a figure is about whole requests, and which."""
    words, asked = _whole(record), record["requests"]
    if not words or asked is None:
        return ""
    return (
        f"{words} Here: {asked['prompt']:,.0f} tokens of prompt, {asked['answer']:,.0f} of answer."
    )


def _whole(record: dict[str, Any]) -> str:
    if record["comparison"]["question"] != "decode":
        return ""
    return " Whole requests, with the reading of prompts, unlike the verdict on decode alone."


def _section(heading: str, words: str, body: str) -> str:
    said = f"<p>{escape(words)}</p>" if words else ""
    return f"<section><h2>{escape(heading)}</h2>{said}{body}</section>"


def _pair(sections: Iterable[str]) -> str:
    return f'<div class="two">{"".join(sections)}</div>'


def _chart(name: str) -> str:
    return f'<div class="chart" id="chart-{name}" role="img" aria-label="{escape(name)}"></div>'


def _figure(heading: str, words: str, name: str, downloads: dict[str, str]) -> str:
    return _section(heading, words, _chart(name) + downloads[name])


def _grid(record: dict[str, Any], downloads: dict[str, str]) -> str:
    grid = record["grid"]
    sliders = "".join(
        f'<label>{words} <output id="said-{signal}"></output>'
        f'<input type="range" min="0" max="{count - 1}" step="1" value="{start}" '
        f'data-signal="{signal}" aria-label="{words}"></label>'
        for words, signal, count, start in (
            ("Size of the dense model:", "q_index", len(grid["q"]), asked_place(grid)),
            ("Prompt:", "cached_index", len(grid["cached"]), 0),
        )
    )
    body = f'<div class="sliders">{sliders}</div>{_chart("grid")}{downloads["grid"]}'
    return _section("Who wins over prompt and answer", GRID + _whole(record), body)


def _download(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """A link that saves the numbers of a figure."""
    text = base64.b64encode(csv_text(rows).encode()).decode()
    return (
        f'<p class="csv"><a download="{name}.csv" href="data:text/csv;base64,{text}">'
        "numbers as CSV</a></p>"
    )
