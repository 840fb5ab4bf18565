"""Quantises a GGUF file with llama.cpp: `python llama_quantize.py IN OUT N`, N a number of llama_ftype.

Runs in the peers' environment (requirements.txt beside this file).
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp

source, target, file_type = sys.argv[1:]
parameters = llama_cpp.llama_model_quantize_default_params()
parameters.ftype = int(file_type)
parameters.nthread = 2
llama_cpp.llama_backend_init()
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)))
