"""Fixtures that all tests with real processes share."""

from pathlib import Path

import pytest
from small_run import write_images


@pytest.fixture(scope="session")
def drawn_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_images(root)
    return root
