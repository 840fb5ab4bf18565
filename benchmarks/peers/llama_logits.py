"""Last-position logits of llama.cpp: `PEER_PYTHON llama_logits.py REQUEST.json OUT.npy`.

It runs in the peers' environment. The request holds `base` (a path), `tokens` (ids) and `adapters` (pairs of
path and scale). Keys and values are kept in float32 and flash attention is off, so that nothing is rounded
but what the base's own type makes llama.cpp round.
"""

import ctypes
import json
import sys

import llama_cpp
import numpy as np


def logits(base: str, tokens: list[int], adapters: list[tuple[str, float]]) -> np.ndarray:
    """Return the logits ``[vocab]`` of the last token with these adapters at these scales."""
    llama_cpp.llama_backend_init()
    model_parameters = llama_cpp.llama_model_default_params()
    model_parameters.use_extra_bufts = False  # no repacked weights: they round activations in yet another way
    model = llama_cpp.llama_model_load_from_file(base.encode(), model_parameters)
    if not model:
        sys.exit(f"llama.cpp cannot load {base}")
    loaded = [llama_cpp.llama_adapter_lora_init(model, path.encode()) for path, _ in adapters]
    if not all(loaded):
        sys.exit(f"llama.cpp cannot load one of {[path for path, _ in adapters]}")

    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = max(256, len(tokens))
    parameters.n_threads = parameters.n_threads_batch = 2
    parameters.type_k = parameters.type_v = 0  # GGML_TYPE_F32
    parameters.flash_attn_type = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, parameters)
    pointers = (llama_cpp.llama_adapter_lora_p_ctypes * len(loaded))(*loaded)
    scales = (ctypes.c_float * len(loaded))(*[scale for _, scale in adapters])
    if llama_cpp.llama_set_adapters_lora(context, pointers, len(loaded), scales):
        sys.exit("llama.cpp refuses the adapters")

    ids = (llama_cpp.llama_token * len(tokens))(*tokens)
    if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, len(tokens))):
        sys.exit("llama.cpp cannot decode the tokens")
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (vocabulary,)).copy()


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    np.save(sys.argv[2], logits(request["base"], request["tokens"], request["adapters"]))
