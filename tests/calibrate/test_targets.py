"""The table of targets says what its own numbers say."""

import pytest

from experiments.pages import targets
from experiments.pages.targets import DOCS


def numbers(cell: str) -> list[float]:
    return [float(part.split(",")[0]) for part in cell.split(" / ")]


def table(page: str) -> list[list[str]]:
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("line", table("targets.md"), ids=lambda line: line[0])
def test_met_is_what_the_numbers_say(line: list[str]) -> None:
    name, aim, fitted, models, accelerators, _, verdict = line
    cell = accelerators if name.endswith("other accelerators") else models
    reached = numbers(cell)
    if " to " in aim:
        low, high = map(float, aim.split(" to "))
        met = low <= reached[0] <= high
    else:
        met = all(one <= most for one, most in zip(reached, numbers(aim), strict=True))
    assert verdict == ("met" if met else "missed")
    if fitted != "-" and " / " in aim:
        assert numbers(fitted)[0] <= numbers(models)[0]


def test_operators_are_those_of_the_calibration_page() -> None:
    rows = {line[0]: line for line in reversed(table("calibration.md"))}  # the first of a name
    shown = {line[0]: line for line in table("targets.md")}
    for name, (quantity, _, _) in targets.OPERATORS.items():
        for column in (2, 3, 4):
            median, rest = rows[name][column].split(" / ", 1)
            p90 = rest.replace(",", " ").split()[0]
            assert shown[quantity][column] == f"{median} / {p90}"
