"""A plugin's `Options` made of plain values: what the command line, a form or a session file says."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec

from studio.errors import StudioError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field

    from studio.contracts import Extension

_KINDS = (bool, int, float, str)


def make_options(extension: Extension, values: Mapping[str, object]) -> Any:
    """Return an extension's `Options` with these values, and its defaults for the rest.

    A text stands for the number or truth value that it reads as, such as ``"0.5"`` or ``"true"``.

    Raises
    ------
    StudioError
        If there is no option of a name, or a value is not what it takes; `where` names the option.
    """
    known = {field.name: field for field in fields(extension.Options)}
    defaults = extension.Options()
    made = {}
    for name, value in values.items():
        if name not in known:
            raise StudioError(
                f"{extension.name} has no option {name!r}",
                where=name,
                remedy=f"It has {', '.join(known)}" if known else "It has no options",
            )
        made[name] = _checked(known[name], type(getattr(defaults, name)), value)
    return extension.Options(**made)


def _checked(field: Field[Any], kind: type[Any], value: object) -> Any:
    """Return a value as the field's default and metadata ask for it."""
    if kind in _KINDS:
        try:
            value = msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError:
            raise _refused(field.name, value, f"Give a {kind.__name__}") from None
    choices = list(field.metadata.get("choices", [value]))
    if value not in choices:
        raise _refused(field.name, value, f"Choose one of {', '.join(map(str, choices))}")
    low, high = field.metadata.get("range", (None, None))
    if low is not None and not low <= value <= high:
        raise _refused(field.name, value, f"Give a number from {low} to {high}")
    return value


def _refused(name: str, value: object, remedy: str) -> StudioError:
    return StudioError(f"{value!r} does not fit this option", where=name, remedy=remedy)
