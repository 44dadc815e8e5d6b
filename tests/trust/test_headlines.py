"""The numbers that the README tells, from the commands that it tells: they move only on purpose,
with the README.
"""

from pathlib import Path

import pytest

import qsopt

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_the_readme_tells_them() -> None:
    for text in ("1.95 times", "1.39 to 2.19", "0.70 times", "(80 %: 0.49 to 0.81)", "q = 5.75"):
        assert text in README, text


@pytest.mark.slow
def test_deepseek_v3_against_its_dense_match() -> None:
    found = qsopt.compare("deepseek-v3", "16xh200", qsopt.Workload(131072.0)).to_dict()
    low, high = found["intervals"]["ratio_dense_over_moe"]["80"]
    assert found["ratio_dense_over_moe"] == pytest.approx(0.70, abs=0.005)
    assert (low, high) == pytest.approx((0.49, 0.81), abs=0.005)
    assert found["q"] == pytest.approx(5.75, abs=0.005)


@pytest.mark.slow
def test_a_chat_on_one_h100() -> None:
    workload = qsopt.Workload(prompt=1024.0, answer=1024.0)
    found = qsopt.compare("qwen3-30b-a3b", "1xh100", workload, dense="qwen3-14b").to_dict()
    low, high = found["intervals"]["ratio_dense_over_moe"]["80"]
    assert found["ratio_dense_over_moe"] == pytest.approx(1.95, abs=0.005)
    assert (low, high) == pytest.approx((1.39, 2.19), abs=0.005)
