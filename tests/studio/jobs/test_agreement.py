"""The verdict on an exported file, and what it is held to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from studio.jobs.agreement import Agreement

EXACT = Agreement(
    kind="adapter",
    type_name="F32",
    positions=10,
    mean_kl=0.0,
    max_kl=0.0,
    effect=0.5,
    top1=1.0,
    max_error=0.0,
    relative_error=0.0,
)


@pytest.mark.parametrize(
    ("kind", "type_name", "error", "lost", "passed"),
    [
        ("adapter", "F32", 0.9e-4, 0.0, True),
        ("adapter", "F32", 1.1e-4, 0.0, False),
        ("model", "BF16", 2e-2, 0.9, True),
        ("model", "Q4_1", 0.5, 0.24, True),
        ("model", "Q4_1", 1e-3, 0.26, False),
        ("adapter", "", 0.5, 0.24, True),
    ],
)
def test_known_float_types_are_held_to_their_logits_and_others_to_the_effect(
    kind: str, type_name: str, error: float, lost: float, passed: bool
) -> None:
    found = replace(
        EXACT,
        kind=kind,  # type: ignore[arg-type]
        type_name=type_name,
        relative_error=error,
        mean_kl=lost * EXACT.effect,
    )
    assert found.passed is passed
    assert ("effect lost" in found.bound) is (type_name in ("Q4_1", ""))


@pytest.mark.parametrize(
    ("lost", "verdict"),
    [
        (0.4, "The file answers differently from the live blend: 40% of the effect is lost."),
        (1.0, "The adapter is gone: the file is as far from the live blend as the bare base is."),
        (2.5, "The file is another model: it is farther from the live blend than the bare base is."),
    ],
)
def test_what_failed_is_said_in_words(lost: float, verdict: str) -> None:
    assert replace(EXACT, relative_error=0.5, mean_kl=lost * EXACT.effect).verdict == verdict


def test_a_method_is_named_by_what_it_made() -> None:
    assert EXACT.verdict == "The file answers as the live blend does."
    assert replace(EXACT, method="ties").verdict == "The file answers as the combined blend does."


def test_a_blend_without_effect_has_none_to_lose() -> None:
    assert replace(EXACT, effect=0.0).lost == 0
