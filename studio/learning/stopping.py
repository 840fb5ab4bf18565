"""Which state of a run was the best, and when there is no point in going on."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Best:
    """The best so far.

    Attributes
    ----------
    loss
        Its validation loss; infinite before the first.
    step
        After which step it was.
    waited
        How many validations since then were no better.
    """

    loss: float = float("inf")
    step: int = 0
    waited: int = 0

    def after(self, step: int, loss: float) -> Best:
        """Take in a validation."""
        return Best(loss, step) if loss < self.loss else replace(self, waited=self.waited + 1)

    def is_over(self, patience: int) -> bool:
        """Say whether as many validations as the patience were in vain; a patience of 0 is endless."""
        return 0 < patience <= self.waited
