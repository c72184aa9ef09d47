"""The run-time checker of annotations under pytest. An int fits where a float is expected, and a NumPy number too."""

import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

WHOLE = int | np.integer
NUMBERS = FrozenDict({int: WHOLE, float: float | WHOLE | np.floating})
check = beartype(conf=BeartypeConf(hint_overrides=NUMBERS))
