"""Annotations mean something: the formulas pass what they say that they pass, and refuse anything
else. In a process of its own, as the checks cost time at import and at every call.
"""

from pathlib import Path

from processes import run

CHECKED = str(Path(__file__).parent / "checked.py")


def test_every_call_passes_what_is_annotated(compiled: Path) -> None:
    printed = run(compiled, CHECKED, "x64").split()
    assert printed == ["steps_and_prompts", "transformed", "laws", "questions", "refusals"]
