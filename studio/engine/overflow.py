"""What is said of values that are not finite any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.errors import EngineError, NotFiniteError

if TYPE_CHECKING:
    from studio.engine.kv_cache import KvCache


def overflow(cache: KvCache, *, is_base: bool) -> EngineError:
    """Name the layer where a pass, which has filled a cache, first left float32; to be raised.

    Parameters
    ----------
    is_base
        Whether the base ran alone.
    """
    layer = cache.first_overflow()
    place = "the output" if layer is None else f"blk.{layer}"
    if is_base:
        return EngineError(
            f"the base overflows float32 at {place}", remedy="Its file may be damaged; copy it again"
        )
    return NotFiniteError(f"the blend overflows float32 at {place}", remedy="Lower the scales")
