"""What the tests of the small readers share: tiny images, and the pixel in which the reader's camera sees a point."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.readers import captures


@pytest.fixture
def picture():
    """Writes a small image of (width, height), its folder included."""

    return captures.picture


@pytest.fixture
def depth_picture():
    """Writes a depth map of 16 bits."""

    def write(path, values):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values, dtype=np.uint16)).save(path)
        return path

    return write


@pytest.fixture
def seen_at():
    """The pixel (x, y) at which one camera sees a point, which has to be before it."""

    def pixel(camera, point):
        where, z = camera.project(torch.as_tensor(point, dtype=torch.float64))
        assert z > 0
        return where.numpy()

    return pixel


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]
