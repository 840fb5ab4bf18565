"""Runs llama.cpp for the benchmarks: answers requests, one JSON object a line, on two threads.

It runs in the peers' environment. Requests, by what their `do` says:

open        base, adapters (paths), context, repack, flash_attention. Answers once all is loaded.
tokens      text. Answers with its tokens.
prompt      tokens, scales: sets the first adapters to these scales and evaluates the tokens anew. Answers
            with the milliseconds until the last token's logits lie in memory.
generate    count: goes on from there greedily. Answers with the milliseconds of each token.
choose      tokens, scales: times `prompt` with flash attention on and off, keeps the faster and says which.
"""

import ctypes
import json
import math
import sys
import time

import llama_cpp
import numpy as np

THREADS = 2
FLASH_ATTENTION = {False: 0, True: 1}  # LLAMA_FLASH_ATTN_TYPE_DISABLED, _ENABLED
TRIALS = 4


class Server:
    """A model, its adapters, and a context for each setting of flash attention."""

    def __init__(self) -> None:
        llama_cpp.llama_backend_init()
        self.contexts = {}

    def open(self, base: str, adapters: list[str], context: int, repack: bool, flash_attention: bool) -> dict:
        """Load the model and its adapters, and make a context."""
        parameters = llama_cpp.llama_model_default_params()
        parameters.use_extra_bufts = repack
        self.length = context
        self.flash_attention = flash_attention
        self.model = llama_cpp.llama_model_load_from_file(base.encode(), parameters)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {base}")
        self.adapters = [llama_cpp.llama_adapter_lora_init(self.model, path.encode()) for path in adapters]
        if not all(self.adapters):
            sys.exit(f"llama.cpp cannot load one of {adapters}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.context()
        return {}

    def context(self):
        """Return the context with the chosen setting, made at its first use."""
        if self.flash_attention not in self.contexts:
            parameters = llama_cpp.llama_context_default_params()
            parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self.length
            parameters.n_threads = parameters.n_threads_batch = THREADS
            parameters.flash_attn_type = FLASH_ATTENTION[self.flash_attention]
            self.contexts[self.flash_attention] = llama_cpp.llama_init_from_model(self.model, parameters)
        return self.contexts[self.flash_attention]

    def prompt(self, tokens: list[int], scales: list[float]) -> dict:
        """Set the scales and evaluate the tokens, the last one's logits alone."""
        context = self.context()
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(ids, len(tokens))
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * len(scales))(*self.adapters[: len(scales)])
        values = (ctypes.c_float * len(scales))(*scales)
        started = time.perf_counter()
        llama_cpp.llama_set_adapters_lora(context, pointers, len(scales), values)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        self.decode(batch)
        return {"milliseconds": since(started)}

    def generate(self, count: int) -> dict:
        """Choose the best token and evaluate it, again and again."""
        taken = []
        for _ in range(count):
            started = time.perf_counter()
            ids = (llama_cpp.llama_token * 1)(self.best())
            self.decode(llama_cpp.llama_batch_get_one(ids, 1))
            taken.append(since(started))
        return {"milliseconds": taken}

    def choose(self, tokens: list[int], scales: list[float]) -> dict:
        """Keep the setting of flash attention that answers sooner."""
        least = {False: math.inf, True: math.inf}
        for _ in range(TRIALS):
            for self.flash_attention in least:
                taken = self.prompt(tokens, scales)["milliseconds"]
                least[self.flash_attention] = min(least[self.flash_attention], taken)
        self.flash_attention = least[True] < least[False]
        return {"flash_attention": self.flash_attention}

    def tokens(self, text: str) -> dict:
        """Turn text into tokens, with none added."""
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 1))()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), False, False)
        return {"tokens": list(ids[:count])}

    def decode(self, batch) -> None:
        """Evaluate a batch and wait for its last logits."""
        if llama_cpp.llama_decode(self.context(), batch):
            sys.exit("llama.cpp cannot evaluate the tokens")
        self.logits = llama_cpp.llama_get_logits_ith(self.context(), -1)

    def best(self) -> int:
        """Return the likeliest token."""
        return int(np.ctypeslib.as_array(self.logits, (self.size,)).argmax())


def since(started: float) -> float:
    """Return the milliseconds that have passed."""
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    """Answer until the input ends."""
    server = Server()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(server, request.pop("do"))(**request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
