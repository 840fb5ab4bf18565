"""`--gains`: what is written, what it means, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from studio.cli.gains import parse_gains
from studio.contracts import Gains

MODULES = [f"blk.{layer}.{target}.weight" for layer in range(6) for target in ("attn_q", "attn_v", "ffn_up")]


def gains_of(text: str) -> Gains:
    (term,) = parse_gains(text).terms
    return term(MODULES, 6)


def heard(text: str) -> set[str]:
    return {module for module in MODULES if gains_of(text)[module]}


def test_a_term_is_heard_in_what_it_names_alone() -> None:
    assert heard("attention") == {module for module in MODULES if "attn" in module}
    assert heard("ffn_up") == {module for module in MODULES if "ffn_up" in module}
    assert heard("last-third") == heard("4-5")
    assert heard("3") == {f"blk.3.{target}.weight" for target in ("attn_q", "attn_v", "ffn_up")}


def test_a_curve_runs_straight_from_point_to_point() -> None:
    gains = gains_of("0:1/4:-1")
    assert [gains[f"blk.{layer}.attn_q.weight"] for layer in range(6)] == [1, 0.5, 0, -0.5, -1, -1]


def test_gains_can_be_written_as_json_or_lie_in_a_file(tmp_path: Path) -> None:
    text = '{"attn_q": 0.5, "ffn_up": {"0-2": 0, "5": 2}}'
    path = tmp_path / "a=b.json"
    path.write_text(text)
    for written in (text, str(path)):
        argument = parse_gains(f"1={written}")
        assert argument.adapter == "1"
        assert argument.terms[0](MODULES, 6) == gains_of(text)
    assert dict(gains_of(text).by_module)["blk.5.ffn_up.weight"] == 2


@pytest.mark.parametrize(
    "text", ["", "=attention", "1=", "attn q", "0:x", "3-1", "0:1/", "attention,", "1=0:nan"]
)
def test_what_makes_no_sense_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_gains(text)


@pytest.mark.parametrize(
    ("gains", "says"),
    [
        ("nobody=attention", "no adapter is 'nobody'.*1 \\(smollm2-python\\)"),
        ("2=attention", "no adapter is '2'"),
        ("ssm_in", "acts on nothing in ssm_in.*attn_q"),
        ("40-49", "acts on nothing in 40-49"),
        ('{"ssm_in": 0}', "acts on nothing in ssm_in"),
        ('{"attn_q": {"x": 0}}', "'x' names no layers"),
        ('{"attn_q": "loud"}', "no gains"),
        ('{"attn_q": 1e30}', "no gains"),
        ("no-such.json", "no-such.json.*cannot be read"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path, gains: str, says: str
) -> None:
    outcome = cli(
        "eval", smollm2_path, "--adapter", adapters_dir / "smollm2-python", "--gains", gains, "--tokens", "1"
    )
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert re.search(says, outcome.err)


def test_attention_of_one_and_mlp_of_its_twin_are_the_adapter_whole(
    cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path, tmp_path: Path
) -> None:
    fortune = adapters_dir / "smollm2-fortune"
    twice = ("--adapter", fortune, "--gains", "1=attention", "--gains", "smollm2-fortune 2=mlp")
    logits = []
    for options in ((), twice):
        out = tmp_path / "logits.npy"
        arguments = ("--tokens", "504,3575", "--last", "--logits", out, "--json")
        cli("eval", smollm2_path, "--adapter", fortune, *options, *arguments).json  # noqa: B018 - asserts that it went well
        logits.append(np.load(out))
    assert np.linalg.norm(logits[1] - logits[0]) < 1e-5 * np.linalg.norm(logits[0])
