"""The array words that signatures share; shapes stand in docstrings and comments.

``M`` counts models (respondents), ``N`` prompts (items), ``K`` latent dimensions and ``F``
prompt features throughout the code.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating[Any]]
Float32Array: TypeAlias = NDArray[np.float32]
Float64Array: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.integer[Any]]
BoolArray: TypeAlias = NDArray[np.bool_]
