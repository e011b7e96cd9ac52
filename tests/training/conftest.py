"""What training runs on: generated scenes whose textures are drawn once."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _textures_once(textures_once):
    """For every module here."""
