"""The page of a comparison: what is on it follows from its record, and it works in a browser."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import made, stored, thinned

from qsopt.cli.commands import parsed
from qsopt.cli.report import command_of
from qsopt.report.page import html, words
from qsopt.report.page.charts import charts, line_chart
from qsopt.report.page.html import check_library, page_html
from qsopt.report.page.record import _waterfall
from qsopt.report.page.tables import limit_table, tables
from qsopt.report.records import csv_text

ROOT = Path(__file__).parents[2]

vl_convert = pytest.importorskip("vl_convert")


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return stored()


@pytest.fixture(scope="module")
def page(record: dict[str, Any]) -> str:
    return page_html(record)


# ---- the file --------------------------------------------------------------------------------


def test_one_file_needs_no_network_and_stays_small(page: str) -> None:
    own = page.replace(_library(page), "")
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", own)
    assert "@import" not in own and "url(" not in own
    assert len(page.encode()) < 5e6


def _library(page: str) -> str:
    return max(re.findall(r"<script>(.*?)</script>", page, re.S), key=len)


def test_all_that_was_asked_for_stands_on_it(page: str, record: dict[str, Any]) -> None:
    for name in charts(record):
        assert page.count(f'id="chart-{name}"') == 1
    assert {"line-prompt", "line-answer", "grid", "penalties", "operators", "errors"} == set(
        charts(record)
    )
    for text in ("1.95 times", "1.40 to 2.25", "@software{qsopt", "@article{", "vllm serve"):
        assert text in page
    assert f"<pre>{record['command']}</pre>" in page
    assert page.count("data-signal=") == 2


def test_a_page_about_decode_says_which_figures_are_about_requests(record: dict[str, Any]) -> None:
    told = "unlike the verdict on decode alone."
    decode = page_html({**record, "comparison": {**record["comparison"], "question": "decode"}})
    assert decode.count(told) == 3 and told not in page_html(record)
    assert decode.count("Here: 1,024 tokens of prompt, 1,024 of answer.") == 2


def test_a_page_of_a_cluster_with_too_many_layouts_has_decode_alone(record: dict[str, Any]) -> None:
    alone = {"requests": None, "grid": None, "limits": [], "lines": [], "penalties": []}
    decode = {**record["comparison"], "question": "decode"}
    page = page_html({**record, **alone, "comparison": decode})
    assert "unlike the verdict on decode alone." not in page
    assert "Who wins over prompt and answer" not in page


def test_texts_of_a_record_cannot_leave_their_place(record: dict[str, Any]) -> None:
    foul = json.loads(json.dumps(record).replace("qwen3-14b", "</script><b>x"))
    assert "</script><b>" not in page_html(foul)


def test_downloads_hold_the_numbers_of_the_record(page: str, record: dict[str, Any]) -> None:
    links = dict(re.findall(r'download="([\w-]+)\.csv" href="data:text/csv;base64,([^"]+)"', page))
    assert set(links) == set(tables(record))
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(links["grid"]).decode())))
    assert len(rows) == len(record["grid"]["rows"])
    assert float(rows[7]["ratio"]) == record["grid"]["rows"][7]["ratio"]
    assert {row["cached"] for row in rows} == {"0.0", "0.5", "0.9"}


def test_csv_has_a_column_for_every_key() -> None:
    assert csv_text([{"a": 1}, {"b": 2.5, "a": "x,y"}]) == 'a,b\n1,\n"x,y",2.5\n'


def test_every_chart_is_one_that_vega_lite_draws(record: dict[str, Any]) -> None:
    for spec in charts(record).values():
        wide = {**spec, "width": 400}
        drawn = vl_convert.vegalite_to_svg(json.dumps(wide), vl_version=html.VEGA_LITE)
        assert drawn.count("<path") > 3


def test_the_package_that_draws_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(Exception, match=r"pip install 'qsopt\[report\]'"):
        check_library()


def test_the_citation_is_that_of_the_repository() -> None:
    from qsopt.report.page.sources import bibtex

    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    entry = bibtex()
    version = re.search(r"^version: (\S+)", cited, re.M)
    assert version and f"version = {{{version[1]}}}" in entry
    for name in ("title", "url"):
        for text in re.findall(rf'^ *(?:- )?{name}: "(.+)"$', cited, re.M):
            assert f"{name} = {{{text}}}" in entry


# ---- the record ------------------------------------------------------------------------------


def test_bars_of_the_waterfall_join_and_end_at_the_ratio() -> None:
    rows = _waterfall({"reuse": 2.0, "residency": 3.0, "arithmetic": 0.25})
    assert [(row["start"], row["end"]) for row in rows] == [(1, 2), (2, 6), (6, 1.5), (1, 1.5)]
    assert _waterfall({"reuse": float("nan")}) == []


def test_device_time_of_operators_is_what_throughput_counts(record: dict[str, Any]) -> None:
    """Decode alone: the sum is that of one step, over the sequences that share it."""
    for side in ("moe", "dense"):
        rows = [row for row in record["operators"] if row["side"] == side]
        batch = record["comparison"][side]["decode"]["batch"]
        seconds = sum(row["seconds"] for row in rows)
        assert sum(row["device_us_per_token"] for row in rows) == pytest.approx(
            seconds / batch * 1e6, rel=1e-4
        )


def test_lines_and_limits_pass_through_the_answer(record: dict[str, Any]) -> None:
    ratio = record["comparison"]["ratio_dense_over_moe"]
    for line in record["lines"]:
        (own,) = (row for row in line["rows"] if row[line["what"]] == line["own"])
        assert own["ratio"] == pytest.approx(ratio, rel=1e-5)
        assert own["interval"] == pytest.approx(
            record["comparison"]["intervals"]["ratio_dense_over_moe"]["80"], rel=1e-5
        )
    (asked,) = (row for row in record["limits"] if row["asked"])
    assert asked["ratio"] == pytest.approx(ratio, rel=1e-5)


def test_lengths_beyond_the_trained_context_are_marked(record: dict[str, Any]) -> None:
    """40,960 tokens of prompt and answer together."""
    lines = {line["what"]: line for line in record["lines"]}
    for what, line in lines.items():
        for row in line["rows"]:
            assert row["beyond_trained_context"] == (row[what] + 1024 > 40_960)
    assert {row["beyond_trained_context"] for row in lines["prompt"]["rows"]} == {False, True}
    assert not any(row["beyond_trained_context"] for row in lines["answer"]["rows"])
    told = {
        what: '"trained context"' in json.dumps(line_chart(line)) for what, line in lines.items()
    }
    assert told == {"prompt": True, "answer": False}


def test_the_line_of_decode_alone_is_marked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from qsopt import ideal, load_cluster, load_model
    from qsopt.report.inquiry import Inquiry
    from qsopt.report.page import lines
    from qsopt.spec.service import Service
    from qsopt.spec.workload import Workload

    monkeypatch.setattr(lines, "_at_context", lambda _inquiry, _match, value: {"context": value})
    model = load_model("qwen3-30b-a3b")
    service = Service(load_cluster("1xh100"), Workload(40_960.0), ideal())
    for name, last in (("qwen3-30b-a3b", 40_960.0), ("mine", 2.0**20)):
        inquiry = Inquiry(model, service, q=2.0, model_name=name)
        line = lines.decode_line(inquiry, model)
        within = [row["context"] for row in line["rows"] if not row["beyond_trained_context"]]
        assert max(within) == last and line["trained_end"] == (None if name == "mine" else last)


def test_tighter_limits_never_serve_more(record: dict[str, Any]) -> None:
    for side in ("moe", "dense"):
        rates = [(row[side] or {}).get("tokens_per_s", 0.0) for row in record["limits"]]
        assert rates == sorted(rates, reverse=True)


def test_both_errors_together_are_the_interval_of_the_verdict(record: dict[str, Any]) -> None:
    (both,) = (row for row in record["errors"] if row["what"].startswith("both"))
    ends = record["comparison"]["intervals"]["ratio_dense_over_moe"]["80"]
    assert [both["low"], both["high"]] == pytest.approx(ends, rel=1e-5)


def test_limits_are_told_in_units_that_people_read(record: dict[str, Any]) -> None:
    table = limit_table(record["limits"])
    assert "50 ms" in table and ">10 s<" in table and "nothing keeps the limits" in table


def _sentence(record: dict[str, Any], **changes: Any) -> str:
    from qsopt import ideal, load_cluster, load_model
    from qsopt.report.inquiry import Inquiry
    from qsopt.spec.service import Service
    from qsopt.spec.workload import Workload

    service = Service(load_cluster("1xh100"), Workload(prompt=1024, answer=1024), ideal())
    inquiry = Inquiry(load_model("qwen3-30b-a3b"), service, q=2.0, phrase="1xh100")
    return words.verdict_sentence({**record["comparison"], **changes}, inquiry)


def test_the_winner_comes_first_in_the_sentence(record: dict[str, Any]) -> None:
    dense = _sentence(record)
    assert "reaches 1.95 times the throughput of qwen3-30b-a3b (80 % interval: 1.40" in dense
    assert "answers of 156 tokens" in dense
    moe = _sentence(
        record,
        ratio_dense_over_moe=0.5,
        intervals={"ratio_dense_over_moe": {"80": [0.4, 0.8]}},
        flips=[],
    )
    assert "qwen3-30b-a3b reaches 2.00 times" in moe
    assert "(80 % interval: 1.25 to 2.50)" in moe
    none = _sentence(record, ratio_dense_over_moe=None, verdict="moe infeasible", reason="too big")
    assert none.endswith("moe infeasible. too big")


def test_a_context_beyond_the_trained_one_is_told(record: dict[str, Any]) -> None:
    beyond = _sentence(record, beyond_trained_context=True, trained_context=40_960.0)
    assert beyond.endswith(" qwen3-30b-a3b was made for 40k tokens of context.")
    within = _sentence(record, beyond_trained_context=False, trained_context=40_960.0)
    assert "was made for" not in within


def test_the_command_asks_the_same_question_again() -> None:
    text = (
        "report --model m --cluster 2x8xh200 --prompt 8k --answer 1k --ttft-ms 2s --cached 50% "
        "--as qwen3_moe --ignore one --ignore two --load 0.5 --law-raw"
    )
    first = parsed(text.split())
    command = command_of(first, "report")
    assert parsed(command.split()[1:]) == first
    assert "--prompt 8192" in command
    elsewhere = parsed([*text.split(), "--json", "--out", "elsewhere/page.html"])
    assert command_of(elsewhere, "report") == command


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--out page.pdf", r"out = page\.pdf: give a file that ends in \.html"),
        ("--law all", "law = all"),
        ("--seed -1", "seed = -1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(
    options: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from qsopt.cli import main

    question = "report --model mixtral-8x7b --cluster 8xh100 --context 8k"
    assert main(f"{question} {options}".split()) == 2
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.slow
def test_the_stored_record_is_what_the_command_says() -> None:
    def numbers(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            for key in value:
                yield key
                yield from numbers(value[key])
        elif isinstance(value, list):
            for entry in value:
                yield from numbers(entry)
        else:
            yield pytest.approx(value, rel=2e-5) if isinstance(value, float) else value

    assert list(numbers(thinned(made()))) == list(numbers(stored()))


# ---- the browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    import shutil

    own = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no browser: {error}")
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, page: str, tmp_path: Path) -> Iterator[Callable[[int], Any]]:
    """Open the page at a width; nothing may be said on the console or asked of a network."""
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    said: list[str] = []
    context = browser.new_context()

    def at(width: int) -> Any:
        view = context.new_page()
        view.set_default_timeout(240_000)
        view.set_viewport_size({"width": width, "height": 900})
        view.on("console", lambda message: said.append(message.text))
        view.on("pageerror", lambda error: said.append(str(error)))
        view.on("request", lambda asked: said.append(asked.url) if "http" in asked.url else None)
        view.goto(path.as_uri())
        view.wait_for_selector("body[data-drawn=true]")
        return view

    yield at
    context.close()
    assert said == []


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_screen(opened: Callable[[int], Any], width: int) -> None:
    view = opened(width)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    wide = view.evaluate(
        "[...document.querySelectorAll('.chart')].filter((chart) => !chart.querySelector('svg') || "
        "chart.querySelector('svg').getBoundingClientRect().right > innerWidth + 1)"
        ".map((chart) => chart.id)"
    )
    assert wide == []


def test_sliders_move_the_map_and_the_page_prints(
    opened: Callable[[int], Any], record: dict[str, Any], tmp_path: Path
) -> None:
    view = opened(1440)

    def shown() -> list[str]:
        return view.eval_on_selector_all(
            "#chart-grid .mark-text text", "texts => texts.map((text) => text.textContent)"
        )

    def expected(q: int, cached: int) -> list[str]:
        rows = record["grid"]["rows"]
        here = [row for row in rows if (row["q_index"], row["cached_index"]) == (q, cached)]
        return sorted(f"{row['ratio']:.2f}" for row in here if row["ratio"] is not None)

    centre = next(i for i, size in enumerate(record["grid"]["q"]) if size["asked"])
    assert set(expected(centre, 0)) <= set(shown())
    slider = view.locator("input[data-signal=q_index]")
    slider.focus()
    slider.press("End")
    view.locator("input[data-signal=cached_index]").focus()
    view.locator("input[data-signal=cached_index]").press("End")
    last = len(record["grid"]["q"]) - 1, len(record["grid"]["cached"]) - 1
    view.wait_for_function(
        "words => [...document.querySelectorAll('#chart-grid .mark-text text')]"
        ".some((text) => text.textContent === words)",
        arg=expected(*last)[-1],
    )
    assert set(expected(*last)) <= set(shown())
    assert "90% cached" in view.locator("#said-cached_index").inner_text()
    view.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
