"""Gradients: the tape, the rules of the operators, and how a loss goes back through a model."""
