"""A parameter: a value that training changes, and room for its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from studio.contracts import FloatArray


@dataclass(frozen=True, eq=False)
class Parameter:
    """What training changes, as it stands; a changed value is another parameter.

    Attributes
    ----------
    value
        float32, read-only.
    """

    value: FloatArray

    @cached_property
    def gradient(self) -> FloatArray:
        """The gradient of a loss with respect to the value; what is found is added to it."""
        return np.zeros_like(self.value)
