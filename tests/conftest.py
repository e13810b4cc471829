"""Tests compute in float32 whatever the machine is faster in, unless they ask for bf16 by name: bits and
tolerances are those of one arithmetic.
"""

import os

from common.precision import VARIABLE

os.environ.setdefault(VARIABLE, "fp32")
