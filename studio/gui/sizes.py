"""Sizes as people read them."""

from __future__ import annotations


def size_text(nbytes: float) -> str:
    """Write a number of bytes, such as ``98 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}" if nbytes < 100 * size else f"{nbytes / size:,.0f} {unit}"
    return f"{nbytes / 1e3:.0f} kB" if nbytes >= 1000 else f"{nbytes:.0f} bytes"
