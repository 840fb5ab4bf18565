"""PEFT's add_weighted_adapter: `PEER_PYTHON peft_combine.py`, requests and answers a line of JSON each.

It runs in the peers' environment. `open` takes the sizes of a Llama model and folders of adapters; `svd`
takes weights and a rank, and answers with the milliseconds it took; `error` answers with the Frobenius norm
of what the last combination differs from the sum of the weighted deltas, over all modules.
"""

import json
import math
import sys
import time

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_num_threads(2)


def open_model(sizes: dict, adapters: list[str]) -> PeftModel:
    """Make a model of these sizes, its weights of no matter, with the adapters loaded as "0", "1", ..."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))
    opened = PeftModel.from_pretrained(model, adapters[0], adapter_name="0")
    for number, folder in enumerate(adapters[1:], start=1):
        opened.load_adapter(folder, adapter_name=str(number))
    return opened


def combine(model: PeftModel, weights: list[float], rank: int) -> float:
    """Combine by svd as the adapter "combined": milliseconds."""
    if "combined" in model.peft_config:
        model.delete_adapter("combined")
    names = [str(number) for number in range(len(weights))]
    started = time.perf_counter()
    model.add_weighted_adapter(names, weights, "combined", combination_type="svd", svd_rank=rank)
    return (time.perf_counter() - started) * 1e3


def error_of(model: PeftModel, weights: list[float]) -> float:
    """Return the norm of the combined delta minus the exact one."""
    squares = 0.0
    for layer in model.modules():
        if isinstance(layer, LoraLayer):

            def delta(name: str, layer: LoraLayer = layer) -> torch.Tensor:
                product = layer.lora_B[name].weight.double() @ layer.lora_A[name].weight.double()
                return product * layer.scaling[name]

            exact = sum(weight * delta(str(number)) for number, weight in enumerate(weights))
            squares += float(((delta("combined") - exact) ** 2).sum())
    return math.sqrt(squares)


def main() -> None:
    """Answer every request of the standard input."""
    model = None
    for line in sys.stdin:
        request = json.loads(line)
        with torch.no_grad():
            if request["do"] == "open":
                model = open_model(request["sizes"], request["adapters"])
                answer = {}
            elif request["do"] == "svd":
                answer = {"milliseconds": combine(model, request["weights"], request["rank"])}
            else:
                answer = {"error": error_of(model, request["weights"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
