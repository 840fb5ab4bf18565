"""Logits of transformers, and of PEFT on it: `PEER_PYTHON hf_logits.py REQUEST.json OUT.npz`.

It runs in the peers' environment. The request is a list of objects with a `name`, a `model` (a folder), an
`adapter` (a PEFT folder or null) and `tokens` (ids); the answer has float32 ``[T, V]`` by name.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, logging


def logits(model: str, adapter: str | None, tokens: list[int]) -> Any:
    """Return the logits ``[T, V]`` of every position. A tensor that is missing, or of no use, is an error."""
    loaded, info = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {kind: keys for kind, keys in info.items() if keys}
    if problems:
        raise SystemExit(f"{model}: {problems}")
    if adapter is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loaded = PeftModel.from_pretrained(loaded, adapter)
        lost = [str(one.message) for one in caught if "missing" in str(one.message)]
        if lost:
            raise SystemExit(f"{adapter}: {lost}")
    with torch.no_grad():
        output = loaded.eval()(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return output.float().numpy()


def main() -> None:
    """Answer the request."""
    request, out = sys.argv[1:]
    logging.set_verbosity_error()
    with open(request, encoding="utf-8") as file:
        cases = json.load(file)
    np.savez(out, **{case["name"]: logits(case["model"], case["adapter"], case["tokens"]) for case in cases})


if __name__ == "__main__":
    main()
