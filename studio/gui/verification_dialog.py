"""The proof of an export: how the file answers beside the live blend, and a verdict in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from studio.gui.controls import DeskLabel, set_text_colour
from studio.gui.fact_list import FactList
from studio.gui.shapes import PRIMARY
from studio.gui.theme import current_theme, strong_font

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from studio.jobs.agreement import Agreement


class VerificationDialog(QDialog):
    """Shows one result. It stays beside the desk until it is closed."""

    heatmap_requested = Signal()
    """Draw how much of the delta is left in each module."""

    def __init__(
        self, path: Path, agreement: Agreement, notes: Sequence[str] = (), parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._passed = agreement.passed
        self._report = "\n".join(
            [str(path), agreement.verdict, *(f"{name}: {text}" for name, text in agreement_facts(agreement))]
        )
        self.setWindowTitle(f"Verified {path.name}")
        self.setMinimumWidth(520)
        self.verdict = QLabel(f"{'✓' if agreement.passed else '✕'}  {agreement.verdict}")
        self.verdict.setWordWrap(True)
        font = self.verdict.font()
        font.setPointSizeF(font.pointSizeF() * 1.2)
        self.verdict.setFont(strong_font(font))
        self.facts = FactList("How it answers")
        self.facts.set_facts(agreement_facts(agreement))
        self.heatmap_button = QPushButton("Show on the heatmap")
        self.heatmap_button.setToolTip("How much of the delta each module of the file keeps")
        self.heatmap_button.setVisible(bool(agreement.modules))
        self.copy_button = QPushButton("Copy")
        self.copy_button.setAccessibleName("Copy the result as text")
        close = QPushButton("Close")
        close.setProperty(PRIMARY, True)
        close.setDefault(True)
        buttons = QHBoxLayout()
        buttons.addWidget(self.heatmap_button)
        buttons.addStretch(1)
        buttons.addWidget(self.copy_button)
        buttons.addWidget(close)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(22, 20, 22, 16)
        layout.setSpacing(14)
        layout.addWidget(self.verdict)
        layout.addWidget(self.facts)
        for note in notes:
            line = QLabel(note)
            line.setWordWrap(True)
            layout.addWidget(line)
        layout.addWidget(DeskLabel(str(path), small=True, quiet=True, elided=True))
        layout.addLayout(buttons)
        self.heatmap_button.clicked.connect(self.heatmap_requested)
        self.copy_button.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._report))
        close.clicked.connect(self.accept)
        self._take_colours()

    def _take_colours(self) -> None:
        theme = current_theme()
        set_text_colour(self.verdict, theme.good if self._passed else theme.danger)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._take_colours()


def agreement_facts(agreement: Agreement) -> list[tuple[str, str]]:
    """Return a result as (name, text), in the order to read."""
    mean, most = agreement.mean_kl, agreement.max_kl
    blend = "combined" if agreement.method else "live"
    facts = [
        ("Distance", f"{mean:.3g} nats on average, {most:.3g} at most: KL({blend} ‖ file)"),
        (
            "Effect",
            f"{agreement.effect:.3g} nats on average: KL({blend} ‖ base), what the blend changes at all",
        ),
        ("Likeliest token", f"the same at {agreement.top1:.1%} of {agreement.positions} positions"),
        ("Logits", f"off by {agreement.max_error:.3g} at most, {agreement.relative_error:.2g} relative"),
    ]
    if agreement.method:
        moved = (
            f"{agreement.moved:.3g} nats on average: KL(combined ‖ live), what it changes of what is heard"
        )
        facts.insert(2, (f"Combined by {agreement.method}", moved))
    if agreement.modules:
        kept = sorted(agreement.modules, key=lambda one: one.kept)
        middle, least = kept[len(kept) // 2], kept[0]
        facts.append(
            ("Delta kept", f"{middle.kept:.0%} in the median module, {least.kept:.0%} in {least.module}")
        )
    return [*facts, ("Held to", agreement.bound)]
