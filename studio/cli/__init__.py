"""The command `lora-studio`: opens the desk, or does the same work without a screen."""
