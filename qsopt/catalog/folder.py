"""Where the catalog lies: `configs/` in a checkout, and the same folder inside an installed
wheel.
"""

from functools import cache
from pathlib import Path


@cache
def configs() -> Path:
    """The folder that holds `models/`, `hardware/` and `efficiency/`."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"
