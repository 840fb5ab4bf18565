"""From a base, adapters and tokens to logits: the forward pass on the CPU or a CUDA device."""
