"""Times llama.cpp on two threads: `PEER_PYTHON llama_speed.py REQUEST.json` prints milliseconds as JSON."""

import ctypes
import json
import sys
import time

import llama_cpp


def main() -> None:
    """Read the request, run, print."""
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    llama_cpp.llama_backend_init()
    model_parameters = llama_cpp.llama_model_default_params()
    model_parameters.use_extra_bufts = request["repack"]
    model = llama_cpp.llama_model_load_from_file(request["base"].encode(), model_parameters)
    loaded = [llama_cpp.llama_adapter_lora_init(model, path.encode()) for path in request["adapters"]]
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 512
    parameters.n_threads = parameters.n_threads_batch = 2
    context = llama_cpp.llama_init_from_model(model, parameters)
    pointers = (llama_cpp.llama_adapter_lora_p_ctypes * len(loaded))(*loaded)

    def prompt(step: int) -> None:
        scales = (ctypes.c_float * len(loaded))(*[0.1 + 0.01 * step] * len(loaded))
        llama_cpp.llama_set_adapters_lora(context, pointers, len(loaded), scales)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        run(request["tokens"])

    def run(tokens: list[int]) -> None:
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, len(tokens))):
            sys.exit("llama.cpp cannot decode the tokens")
        llama_cpp.llama_get_logits_ith(context, -1)

    def timed(work, repetitions: int) -> list[float]:
        taken = []
        for step in range(-2, repetitions):
            started = time.perf_counter()
            work(step)
            if step >= 0:
                taken.append((time.perf_counter() - started) * 1e3)
        return taken

    result = {"prompt": timed(prompt, request["repetitions"])}
    result["decode"] = timed(lambda _: run([request["tokens"][0]]), request["new_tokens"])
    print(json.dumps(result))


main()
