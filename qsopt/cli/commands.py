"""The commands as one union: the first word of the command line chooses."""

from typing import Annotated, TypeAlias

import tyro

from qsopt.cli.compare import Compare
from qsopt.cli.evaluate import Evaluate
from qsopt.cli.listing import List

Command: TypeAlias = (
    Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[List, tyro.conf.subcommand("list")]
)
