"""Names for the arrays that go through a worker."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""8-bit values of pictures or of their opacity."""
Norms = npt.NDArray[np.float32]
"""Style vectors."""
