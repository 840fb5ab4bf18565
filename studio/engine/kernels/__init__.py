"""Decoding on the CPU by compiled kernels: a token is one program that every thread walks through together."""
