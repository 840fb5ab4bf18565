"""PEFT's training: `PEER_PYTHON peft_train.py`, requests and answers a line of JSON each.

It runs in the peers' environment. `open` takes folders of a model and of an adapter to begin with, and how
AdamW steps; `step` takes sequences of tokens, of which every one but the first is learnt, and answers with
the milliseconds it took, the loss and the norm of the gradients.
"""

import json
import sys
import time

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, logging

torch.set_num_threads(2)
logging.set_verbosity_error()


class Training:
    """A model with an adapter, and what trains it."""

    def __init__(self, model: str, adapter: str, rate: float, weight_decay: float, clipping: float) -> None:
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        base.config.use_cache = False
        self.model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
        self.model.train()
        self.parameters = [one for one in self.model.parameters() if one.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=weight_decay)
        self.clipping = clipping

    def step(self, sequences: list[list[int]]) -> dict[str, float]:
        """Learn sequences of one length."""
        started = time.perf_counter()
        tokens = torch.tensor(sequences)
        loss = self.model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clipping)
        self.optimiser.step()
        self.optimiser.zero_grad()
        took = 1e3 * (time.perf_counter() - started)
        return {"milliseconds": took, "loss": float(loss.detach()), "norm": float(norm)}


def main() -> None:
    """Answer every request of the standard input."""
    training = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        if do == "open":
            training = Training(**request)
            answer = {"trained": sum(one.numel() for one in training.parameters)}
        else:
            answer = training.step(request["sequences"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
