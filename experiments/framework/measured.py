"""Where the repository keeps what experiments were given or have found, for those who cannot or
need not make it anew.
"""

from pathlib import Path

RECORDS = Path(__file__).parents[1] / "data"
"""Records of findings, and measured pairs with their sources."""
