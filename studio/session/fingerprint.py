"""Fingerprints that tell whether the files a session names have changed since it was saved."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEAD_BYTES = 16 * 2**20
"""How much of a base is hashed: its header with the vocabulary and its first tensors."""

ADAPTER_SUFFIXES = frozenset({".safetensors", ".json"})
"""Files of an adapter's folder that make up the adapter; read-me files and the like may change."""


def base_fingerprint(first: Path, *rest: Path) -> str:
    """Hash the head of a base and its files' sizes: bases are too large to hash whole at every opening."""
    digest = hashlib.sha256()
    with first.open("rb") as file:
        digest.update(file.read(HEAD_BYTES))
    for path in (first, *rest):
        digest.update(path.stat().st_size.to_bytes(8, "little"))
    return f"sha256-head:{digest.hexdigest()}"


def adapter_fingerprint(path: Path) -> str:
    """Hash the whole content of an adapter: one file, or the weights and settings right inside its folder."""
    if path.is_file():
        return f"sha256:{_hash_file(path)}"
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.suffix in ADAPTER_SUFFIXES and file.is_file():
            digest.update(f"{file.name}\0{_hash_file(file)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
