"""Lets `python -m studio.cli` stand for `lora-studio`."""

from studio.cli.main import main

main()
