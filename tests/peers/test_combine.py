"""PEFT's way of combining factors gives PEFT's numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import DeltaPart
from studio.lora import algebra

pytestmark = pytest.mark.peers

SCRIPT = """
import json, math, sys
import numpy as np, torch
from peft.utils import merge_utils
factors, request = np.load(sys.argv[1]), json.loads(sys.argv[2])
roots = [math.sqrt(abs(scale)) for scale in request["scales"]]
signed = [math.copysign(root, scale) for root, scale in zip(roots, request["scales"])]
out = {}
for half, weights in (("a", signed), ("b", roots)):
    tensors = [torch.from_numpy(one) for one in factors[half]]
    rule = request["rule"]
    more = [] if rule == "task_arithmetic" else [0.4]
    if rule == "ties":
        more.append(request["majority"])
    out[half] = getattr(merge_utils, rule)(tensors, torch.tensor(weights), *more).numpy()
np.savez(sys.argv[3], **out)
"""


@pytest.mark.parametrize(
    ("rule", "theirs", "majority"),
    [
        ("linear", "task_arithmetic", "total"),
        ("magnitude_prune", "magnitude_prune", "total"),
        ("ties", "ties", "total"),
        ("ties", "ties", "frequency"),
    ],
)
def test_factors_combined_as_peft_combines_them(
    rule: Any, theirs: str, majority: Any, tmp_path: Path, peers_python: str
) -> None:
    random = np.random.default_rng(0)
    factors = {"a": random.standard_normal((3, 4, 30), "f4"), "b": random.standard_normal((3, 20, 4), "f4")}
    scales = [0.8, -0.5, 1.7]
    np.savez(tmp_path / "in.npz", a=factors["a"], b=factors["b"])
    request = json.dumps({"rule": theirs, "majority": majority, "scales": scales})
    subprocess.run(
        [peers_python, "-c", SCRIPT, str(tmp_path / "in.npz"), request, str(tmp_path / "out.npz")], check=True
    )
    parts = [DeltaPart(a, b, s, s) for a, b, s in zip(factors["a"], factors["b"], scales, strict=True)]
    found = algebra.per_factor("m", parts, rule=rule, density=0.4, majority=majority, seed=0)
    with np.load(tmp_path / "out.npz") as expected:
        for half, own in (("a", found.a), ("b", found.b)):
            assert np.linalg.norm(own - expected[half]) < 1e-6 * np.linalg.norm(expected[half])
