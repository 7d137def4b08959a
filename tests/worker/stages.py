"""What fake networks of the tests need to know of a large painting's stages."""

import numpy as np

from worker.arrays import Pixels
from worker.large_pictures import REDUCTION, SCALES
from worker.runtimes import Values
from worker.runtimes.methods import Method


def px_of_photo(method: Method, input_: Pixels | Values) -> int:
    """How many pixels of the photo a stage is given, or features of so many."""
    px = input_[..., 0].size if input_.dtype == np.uint8 else input_[0, 0].size
    return px * (REDUCTION // SCALES[method].input) ** 2
