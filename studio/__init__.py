"""LoRA Studio: stack, blend and inspect LoRA adapters on a live model."""
