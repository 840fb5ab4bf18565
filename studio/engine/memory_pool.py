"""Memory for keys and values, allocated once for each size of evaluation and used again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studio.engine.kv_cache import KvCache

if TYPE_CHECKING:
    from studio.engine.kv_cache import CacheShape


class MemoryPool:
    """The caches of evaluations that come again in the same sizes, each for one evaluation at a time.

    Only keys and values are pooled: they are what an evaluation holds on to until its end. Activations are
    let go of layer by layer, and the allocator hands the same memory out again.
    """

    def __init__(self) -> None:
        self._caches: dict[tuple[Any, CacheShape, int, int], KvCache] = {}

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(cache.nbytes for cache in self._caches.values())

    def cache(self, xp: Any, shape: CacheShape, blends: int, length: int) -> KvCache:
        """Return an empty cache for so many blends and positions; whoever had it before is done with it."""
        key = (xp, shape, blends, length)
        cache = self._caches.get(key)
        if cache is None:
            cache = self._caches[key] = KvCache(xp, shape, blends, length)
        cache.length = 0
        return cache

    def clear(self) -> None:
        """Free all of it."""
        self._caches.clear()
