"""The LoRA room: adapters, the stack that blends them, their names, norms and reports."""
