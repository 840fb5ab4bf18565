"""How far the sampling of a session may go: what its controls can show and a session file may say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from studio.errors import StudioError

if TYPE_CHECKING:
    from studio.contracts import Sampling

MAX_TOKENS: Final = (1, 999_999)
TEMPERATURE: Final = (0.0, 100.0)
TOP_K: Final = (0, 999_999)
TOP_P: Final = (0.0001, 1.0)
MIN_P: Final = (0.0, 1.0)
SEED_DIGITS: Final = 18

_LIMITS: dict[str, tuple[float, float]] = {
    "max_tokens": MAX_TOKENS,
    "temperature": TEMPERATURE,
    "top_k": TOP_K,
    "top_p": TOP_P,
    "min_p": MIN_P,
    "seed": (0, 10**SEED_DIGITS - 1),
}


def check_limits(sampling: Sampling) -> None:
    """Refuse a sampling that no control can show. Raises `StudioError` naming the setting."""
    for name, (low, high) in _LIMITS.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:  # true for NaN as well
            raise StudioError(
                f"{value} is no {name}",
                where=f"sampling.{name}",
                remedy=f"Give a number from {low} to {high}",
            )
