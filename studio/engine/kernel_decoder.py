"""Decodes single tokens of an open base with the compiled kernels, once they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.token_plan import PlannedModel

if TYPE_CHECKING:
    from studio.contracts import FloatArray
    from studio.engine.adapter_bank import AdapterBank, BoundBlends
    from studio.engine.kernel_loader import KernelLoader
    from studio.engine.kernels.token_program import TiledWeights, TokenProgram
    from studio.engine.kernels.walkers import Walkers
    from studio.engine.model import ForwardPass, Model

MOST_PROGRAMS = 2
"""How many programs are kept: base and blend take turns, token by token."""


class KernelDecoder:
    """Writes the programs of one engine: they have memory of their own, so one thread at a time runs them.

    Parameters
    ----------
    loader
        Brings the kernels; several engines on the same base share it.
    """

    def __init__(self, model: Model, loader: KernelLoader) -> None:
        self._model = model
        self.loader = loader
        self._programs: list[tuple[AdapterBank | None, TokenProgram]] = []  # the one used last at the end

    def logits(self, run: ForwardPass, blends: BoundBlends | None) -> FloatArray | None:
        """Decode the one token of a pass into logits ``[V]``; None where NumPy has to do it."""
        ready = self.loader.ready
        if ready is None or run.blends != 1 or (blends is not None and blends.bank.opaque):
            return None
        assert isinstance(self._model, PlannedModel)
        program = self._program(*ready, None if blends is None else blends.bank)
        scales = None if blends is None else blends.rank_scales[:, 0, 0]
        embedded: FloatArray = self._model.embed(run)[:, 0]
        return program.logits(embedded, run.cache, run.horizon, scales)

    def close(self) -> None:
        """Let go of the programs."""
        self._programs = []

    def _program(self, weights: TiledWeights, walkers: Walkers, bank: AdapterBank | None) -> TokenProgram:
        """Return the program with a bank's factors, written anew where it is none of the kept ones."""
        kept = [(its_bank, program) for its_bank, program in self._programs if its_bank is bank]
        if not kept:
            from studio.engine.kernels.token_program import TokenProgram, tile_bank

            plan = self.loader.plan
            assert plan is not None
            factors = {} if bank is None else tile_bank(bank)
            ranks = 0 if bank is None else bank.ranks
            kept = [(bank, TokenProgram(plan, weights, factors, ranks, walkers))]
        others = [pair for pair in self._programs if pair[0] is not bank]
        self._programs = [*others, *kept][-MOST_PROGRAMS:]
        return kept[0][1]
