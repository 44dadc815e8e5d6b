"""The commands by name. Only the one that a command line names is imported, so no answer waits for
the others.
"""

from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any

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
}
"""Where the class of each command stands."""


def parsed(words: Sequence[str], description: str | None) -> Any:
    """The command that the words of a command line stand for.

    Raises:
        SystemExit: as the parser does, after help or a complaint.
    """
    if words and words[0] in COMMANDS:
        return tyro.cli(_load(words[0]), prog=f"qsopt {words[0]}", args=words[1:])
    every: Any = reduce(
        or_, (Annotated[_load(name), tyro.conf.subcommand(name)] for name in COMMANDS)
    )
    return tyro.cli(every, prog="qsopt", args=words, description=description)


def _load(name: str) -> Any:
    module, kind = COMMANDS[name]
    return getattr(import_module(module), kind)
