"""The commands by name. Only the one that a command line names is imported, so no answer waits for
the others.
"""

from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

import tyro

COMMANDS = {
    "evaluate": ("qsopt.cli.evaluate", "Evaluate"),
    "serve": ("qsopt.cli.serve", "Serve"),
    "compare": ("qsopt.cli.compare", "Compare"),
    "report": ("qsopt.cli.report", "Report"),
    "propose": ("qsopt.cli.propose", "Propose"),
    "lifetime": ("qsopt.cli.lifetime", "LifetimeCommand"),
    "optimize": ("qsopt.cli.optimize", "Optimize"),
    "sensitivity": ("qsopt.cli.sensitivity", "SensitivityCommand"),
    "crossover": ("qsopt.cli.crossover", "Crossover"),
    "map": ("qsopt.cli.map", "Map"),
    "reproduce": ("qsopt.cli.reproduce", "Reproduce"),
    "calibrate": ("qsopt.cli.calibrate", "Calibrate"),
    "validate": ("qsopt.cli.validate", "Validate"),
    "list": ("qsopt.cli.listing", "List"),
    "completion": ("qsopt.cli.completion", "Completion"),
}
"""Where the class of each command stands."""


def help_of(words: Sequence[str], about: str) -> str:
    """The help that words with --help ask for: of a command, or of the whole."""
    from qsopt.cli.help import help_text, overview  # noqa: PLC0415
    from qsopt.cli.options import Question  # noqa: PLC0415

    name = next((word for word in words if word in COMMANDS), None)
    if name is None:
        return overview(about, {each: load(each) for each in COMMANDS})
    return help_text(load(name), name, [field.name for field in fields(Question)])


def parsed(words: Sequence[str]) -> Any:
    """The command that the words of a command line stand for.

    Raises:
        SystemExit: as the parser does, after a complaint.
    """
    return tyro.cli(load(words[0]), prog=f"qsopt {words[0]}", args=words[1:])


def load(name: str) -> Any:
    """The class of a command."""
    module, kind = COMMANDS[name]
    return getattr(import_module(module), kind)
