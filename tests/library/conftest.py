"""A folder for what the fresh processes compile, kept between runs of the tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def compiled(request: pytest.FixtureRequest) -> Path:
    """The folder."""
    cache = request.config.cache
    assert cache is not None
    return cache.mkdir("compiled")
