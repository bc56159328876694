"""What a normal variable is expected to gain, in logarithms, so that tiny gains differ too."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from keeptune.search.optimizers.bayesian.encoding import Floats

# Beyond so many deviations on either side the asymptotes are exact enough, and exp is not.
_FAR = 30.0


def log_expected_improvement(means: Floats, deviations: Floats, best: Floats) -> Floats:
    """Of a normal variable below `best`, stable where it is tiny and where it is certain.

    Ament et al., Unexpected Improvements to Expected Improvement for Bayesian Optimization,
    NeurIPS 2023, equation 9.
    """
    z = (best - means) / deviations
    density = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
    # phi(z) + z Phi(z) = phi(z) (1 + z Phi(z) / phi(z)), and Phi / phi is a scaled erfc.
    near = np.clip(z, -_FAR, _FAR)
    ratio = near * special.erfcx(-near / math.sqrt(2.0)) * math.sqrt(math.pi / 2)
    factor = np.where(z < -_FAR, -2.0 * np.log(np.maximum(-z, 1.0)), np.log1p(ratio))
    gain = np.where(z > _FAR, np.log(np.maximum(z, 1.0)), density + factor)
    return np.asarray(np.log(deviations) + gain)
