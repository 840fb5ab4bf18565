"""Makes an adapter of a ggla file: Meta's or GGUF's names, A the other way up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from studio.api import Finding, FormatError, LoraFactors, NamedPair, RowOrder, place
from studio_ggla.reader import MAGIC, read_ggla

if TYPE_CHECKING:
    from pathlib import Path

    from studio.api import AnyAdapter, BaseModel
    from studio_ggla.reader import GglaFile

SUFFIXES = {".loraA": "a", ".loraB": "b"}


@dataclass(frozen=True)
class GglaOptions:
    """How a ggla file is read."""

    row_order: RowOrder = field(
        default="auto",
        metadata={
            "help": "Row order of Q and K. 'auto' brings the rows of tensors with Meta's names into the "
            "order of the base, since the converter left them as PEFT has them; 'as stored' leaves them.",
            "choices": ("auto", "as stored"),
        },
    )


class GglaLoader:
    """Loads ggla files."""

    name = "ggla adapter"
    Options = GglaOptions

    def recognises(self, path: Path) -> bool:
        """Say whether it begins with ggla's magic number."""
        try:
            with path.open("rb") as file:
                return file.read(4) == MAGIC
        except (OSError, ValueError):
            return False

    def load(self, path: Path, base: BaseModel | None, options: GglaOptions) -> AnyAdapter:
        """Read it, with names and rows as `base` has them; without a base, as a llama would.

        Raises
        ------
        FormatError
            It is damaged, half a pair is missing, or a rank is not that of the header.
        UnsupportedError
            It is of another version, or the base's architecture is not known.
        MismatchError
            Q, K or a part of a fused weight does not fit the base.
        """
        pairs, unknown = _pairs(read_ggla(path), path)
        finding = Finding(
            "legacy",
            "info",
            "It is a ggla file, as llama.cpp had them before GGUF",
            (
                (
                    "llama.cpp",
                    "refuses it; its old converter left the rows of Q and K as PEFT has them",
                ),
                ("oxillama", "refuses it"),
            ),
            "Export the blend with the studio, which writes GGUF",
        )
        placement = place(pairs, base, path, options.row_order)
        return placement.adapter(
            path.stem, source=path, format=self.name, unmapped=tuple(unknown), findings=(finding,)
        )


def _pairs(content: GglaFile, path: Path) -> tuple[dict[str, NamedPair], list[str]]:
    """Pair the tensors by module, with A turned from (in, r) to (r, in); what is no half is listed."""
    halves: dict[str, dict[str, str]] = {}
    unknown = []
    for name in content.tensors:
        module, dot, suffix = name.rpartition(".")
        if half := SUFFIXES.get(dot + suffix):
            halves.setdefault(module, {})[half] = name
        else:
            unknown.append(name)
    pairs = {}
    for module, names in halves.items():
        if len(names) < 2:
            raise FormatError(
                "half of the pair is missing",
                path=path,
                where=next(iter(names.values())),
                remedy="Convert the adapter again; this file is not complete",
            )
        a, b = content.tensors[names["a"]].T, content.tensors[names["b"]]
        if not (a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1] == content.rank):
            raise FormatError(
                f"A {a.T.shape} and B {b.shape} do not have the rank {content.rank} of the header",
                path=path,
                where=module,
                remedy="Convert the original adapter",
            )
        pairs[module] = NamedPair(LoraFactors(a, b, alpha=content.alpha))
    return pairs, unknown
