"""How near to full precision a runtime's pictures must be."""

import numpy as np

HALF_PRECISION = (0.99, 3.9)
"""Mean and 99.9th percentile of the difference to float32, in 255ths."""
FULL_PRECISION = (0.2, 1)


def assert_near(actual: np.ndarray, expected: np.ndarray, tolerance: tuple[float, float]) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == np.uint8
    difference = np.abs(actual.astype(int) - expected)
    assert difference.mean() <= tolerance[0]
    assert np.quantile(difference, 0.999) <= tolerance[1]
