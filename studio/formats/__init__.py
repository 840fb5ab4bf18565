"""Bytes to arrays and back: GGUF, safetensors, and files that are replaced whole or not at all."""
