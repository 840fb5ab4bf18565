"""Gradients of torch and PEFT: `PEER_PYTHON peft_gradients.py REQUEST.npz OUT.npz`.

It runs in the peers' environment. The request has, by name: "size NAME" and "eps" and "theta" for the
configuration of a Llama, "model NAME" its weights, "alpha" and "rank", "a MODULE" and "b MODULE" the factors
of the adapter, and "tokens I" and "weights I" of each text. The answer has "loss", the sum over all
predictions, and its gradients as "a MODULE" and "b MODULE".
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, logging


def main() -> None:
    """Answer the request."""
    request, out = sys.argv[1:]
    logging.set_verbosity_error()
    arrays = dict(np.load(request))

    def named(kind: str) -> dict[str, np.ndarray]:
        start = kind + " "
        return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}

    model = LlamaForCausalLM(
        LlamaConfig(
            **{name: int(size) for name, size in named("size").items()},
            rms_norm_eps=float(arrays["eps"]),
            tie_word_embeddings=False,
            attn_implementation="eager",
            rope_parameters={"rope_type": "default", "rope_theta": float(arrays["theta"])},
        )
    )
    missing = model.load_state_dict(
        {name: torch.tensor(array) for name, array in named("model").items()}, strict=False
    )
    if missing.unexpected_keys or [key for key in missing.missing_keys if "rotary" not in key]:
        raise SystemExit(str(missing))
    modules = sorted({name.rsplit(".", 1)[-1] for name in named("a")})
    model = get_peft_model(
        model, LoraConfig(r=int(arrays["rank"]), lora_alpha=float(arrays["alpha"]), target_modules=modules)
    )
    parameters = {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            module, _, rest = name.removeprefix("base_model.model.").partition(".lora_")
            key = f"{rest[0].lower()} {module}"
            parameters[key] = parameter
            parameter.data = torch.tensor(arrays[key])
    loss = torch.zeros(())
    for index, tokens in named("tokens").items():
        weights = torch.tensor(arrays[f"weights {index}"])
        logits = model(input_ids=torch.tensor(tokens)[None], use_cache=False).logits[0]
        each = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(tokens)[1:], reduction="none")
        loss = loss + (each * weights[1:]).sum()
    loss.backward()
    found = {key: parameter.grad.numpy() for key, parameter in parameters.items()}
    np.savez(out, loss=loss.item(), **found)


if __name__ == "__main__":
    main()
