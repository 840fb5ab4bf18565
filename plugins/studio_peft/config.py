"""``adapter_config.json``: the fields that change the mathematics, and the ones that are refused."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from studio.api import FormatError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MERGE = "Merge it into its base with PEFT and open the merged model"
_TRAIN_PLAIN = "Train it again as plain LoRA"
_SAVE_CONVERTED = "Save it again with PEFT's path_initial_model_for_weight_conversion"

_MATCH = r"(.*\.)?({})$"
"""How PEFT reads a pattern: it must match a module's name from some dot on to the end."""

Value = TypeVar("Value")

REFUSED_FIELDS = {
    "lora_bias": ("it adds a bias to B", _MERGE),
    "modules_to_save": ("it brings whole weights of its own", _MERGE),
    "layer_replication": ("it repeats layers of the base", _MERGE),
    "trainable_token_indices": ("it replaces rows of the embedding", _MERGE),
    "alora_invocation_tokens": ("it acts only after its invocation tokens", _TRAIN_PLAIN),
    "use_qalora": ("QALoRA pools the inputs of A", _MERGE),
    "use_bdlora": ("BD-LoRA has block-diagonal factors", _MERGE),
    "arrow_config": ("it routes between several adapters", _TRAIN_PLAIN),
    "kasa_config": ("KaSA changes the base's weights", _MERGE),
    "monteclora_config": ("it samples its weights", _TRAIN_PLAIN),
}
"""Fields under which the delta is no longer scaling * B A x, with the reason and the way out."""

_EXPERT_PARAMETERS = re.compile(r"(?:.*\.)?(?:gate_up_proj|down_proj|gate\.weight)")
"""Parameters whose pairs are understood: those of experts and of their router."""

BASE_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of ``init_lora_weights`` under which training changed the base's weights as well."""


@dataclass(frozen=True)
class PeftConfig:
    """What the configuration says of rank and alpha.

    Attributes
    ----------
    path
        The file it was read from.
    rank, alpha
        The values of every module that no pattern matches.
    rank_pattern, alpha_pattern
        Values by pattern; the first that matches counts.
    rank_stabilised
        rsLoRA: alpha / sqrt(rank).
    ties_embeddings
        PEFT lets one pair act on the embedding and on the output that is tied to it.
    parameters
        The ends of the names of parameters that have a pair, though no module of their own.
    use_dora
        Every module has a magnitude beside its pair.
    """

    path: Path
    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rank_stabilised: bool
    ties_embeddings: bool
    parameters: tuple[str, ...]
    use_dora: bool = False

    def rank_of(self, module: str) -> int:
        """Return the rank of a module, named as PEFT does without its prefix ``base_model.model.``."""
        return _first_match(self.rank_pattern, self._name(module), self.rank)

    def alpha_of(self, module: str) -> float:
        """Return the alpha of a module."""
        return _first_match(self.alpha_pattern, self._name(module), self.alpha)

    def _name(self, module: str) -> str:
        """Return what patterns know a module by: its weight, where that was adapted as a parameter."""
        weight = f"{module}.weight"
        return weight if any(f".{weight}".endswith(f".{end}") for end in self.parameters) else module


def read_config(path: Path) -> PeftConfig:
    """Read the configuration.

    Raises
    ------
    FormatError
        It is damaged.
    UnsupportedError
        It describes more than a plain low-rank delta.
    """
    fields = read_fields(path)
    _refuse_unsupported(fields, path)
    return PeftConfig(
        path=path,
        rank=_rank(fields.get("r"), path, "r"),
        alpha=_alpha(fields.get("lora_alpha"), path, "lora_alpha"),
        rank_pattern={
            key: _rank(value, path, f"rank_pattern[{key}]")
            for key, value in _pattern(fields, "rank_pattern", path).items()
        },
        alpha_pattern={
            key: _alpha(value, path, f"alpha_pattern[{key}]")
            for key, value in _pattern(fields, "alpha_pattern", path).items()
        },
        rank_stabilised=bool(fields.get("use_rslora")),
        ties_embeddings=bool(fields.get("ensure_weight_tying")),
        parameters=_parameters(fields, path),
        use_dora=bool(fields.get("use_dora")),
    )


def read_fields(path: Path) -> dict[str, Any]:
    """Read the JSON object. Raises `FormatError` where it is none."""
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(
            f"the configuration cannot be read: {error}", path=path, remedy="Save the adapter again with PEFT"
        ) from None
    if not isinstance(fields, dict):
        raise FormatError(
            "the configuration is no JSON object", path=path, remedy="Save the adapter again with PEFT"
        )
    return fields


def _refuse_unsupported(fields: Mapping[str, Any], path: Path) -> None:
    kind = fields.get("peft_type")
    if kind != "LORA":
        raise UnsupportedError(
            f"the adapter is of type {kind!r}, not LORA", path=path, where="peft_type", remedy=_MERGE
        )
    for field, (reason, remedy) in REFUSED_FIELDS.items():
        if fields.get(field):
            raise UnsupportedError(
                f"{reason}; as a plain LoRA it would be wrong", path=path, where=field, remedy=remedy
            )
    if fields.get("bias", "none") != "none":
        raise UnsupportedError("it trained the base's biases", path=path, where="bias", remedy=_MERGE)
    start = fields.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(BASE_CHANGING_STARTS):
        raise UnsupportedError(
            f"{start} changed the base's weights at the start, so the adapter does not fit the original base",
            path=path,
            where="init_lora_weights",
            remedy=_SAVE_CONVERTED,
        )


def _parameters(fields: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    names = fields.get("target_parameters") or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise FormatError(
            "it must be a list of names", path=path, where="target_parameters", remedy="Correct the file"
        )
    for name in names:
        if not _EXPERT_PARAMETERS.fullmatch(name):
            raise UnsupportedError(
                f"it acts on {name}, a parameter that is no expert's; as a plain LoRA it would be wrong",
                path=path,
                where="target_parameters",
                remedy=_MERGE,
            )
    return tuple(names)


def _pattern(fields: Mapping[str, Any], field: str, path: Path) -> dict[str, Any]:
    pattern = fields.get(field) or {}
    if not isinstance(pattern, dict):
        raise FormatError(
            "it must be an object of values by pattern", path=path, where=field, remedy="Correct the file"
        )
    for key in pattern:
        try:
            re.compile(_MATCH.format(key))
        except (re.error, RecursionError, OverflowError) as error:
            raise FormatError(
                f"{key!r} is no regular expression: {error}",
                path=path,
                where=field,
                remedy="Correct the file",
            ) from None
    return pattern


def _first_match(pattern: Mapping[str, Value], module: str, otherwise: Value) -> Value:
    """Look a module up as PEFT does: the first pattern that matches counts."""
    for key, value in pattern.items():
        if re.match(_MATCH.format(key), module):
            return value
    return otherwise


def _rank(value: Any, path: Path, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FormatError(
            f"the rank is {value!r}, not a whole number from 1",
            path=path,
            where=where,
            remedy="Correct the file",
        )
    return value


def _alpha(value: Any, path: Path, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise FormatError(
            f"alpha is {value!r}, not a number from 0", path=path, where=where, remedy="Correct the file"
        )
    return float(value)
