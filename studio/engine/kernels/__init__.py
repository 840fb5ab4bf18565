"""Decoding on the CPU by compiled kernels: a token is one program that all threads walk through."""
