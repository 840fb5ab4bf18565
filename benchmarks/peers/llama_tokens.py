"""Tokens of llama.cpp: `PEER_PYTHON llama_tokens.py VOCABULARY.gguf < REQUESTS > ANSWERS`.

It runs in the peers' environment. A request is a line of JSON, `[text, add_special, parse_special]`; its
answer is a line with the list of ids. One more line comes last: the ids of the tokens that end a generation.
"""

import ctypes
import json
import sys

import llama_cpp


def main(path: str) -> None:
    """Answer every request of the standard input."""
    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, None)
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    for line in sys.stdin:
        text, add_special, parse_special = json.loads(line)
        data = text.encode()
        ids = (llama_cpp.llama_token * (2 * len(data) + 8))()
        found = llama_cpp.llama_tokenize(
            vocabulary,
            data,
            len(data),
            ids,
            len(ids),
            ctypes.c_bool(add_special),
            ctypes.c_bool(parse_special),
        )
        print(json.dumps(ids[:found]))
    size = llama_cpp.llama_vocab_n_tokens(vocabulary)
    print(json.dumps([token for token in range(size) if llama_cpp.llama_vocab_is_eog(vocabulary, token)]))


if __name__ == "__main__":
    main(sys.argv[1])
