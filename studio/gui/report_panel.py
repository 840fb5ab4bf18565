"""The import report: what an adapter is, what of it acts on the base, and what other programs make of it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QTextBrowser, QVBoxLayout, QWidget

from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import Finding, Severity
    from studio.gui.theme import Theme
    from studio.lora.report import AdapterReport

NOTHING = "Add an adapter to read here what it is and how it fits the base."

SEVERITIES: Mapping[Severity, str] = {"error": "Error", "warning": "Warning", "info": "Good to know"}


class ReportPanel(QWidget):
    """Shows one report at a time. Its setters never emit."""

    chosen = Signal(str)
    """(key): the user chose another adapter."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._reports: dict[str, AdapterReport] = {}
        self.choice = QComboBox()
        self.choice.setAccessibleName("Adapter whose report is shown")
        self.copy_button = QPushButton("Copy report")
        self.copy_button.setAccessibleName("Copy the report as text")
        self.text = QTextBrowser()
        self.text.setAccessibleName("Import report")
        self.text.setOpenLinks(False)
        self.text.setTabChangesFocus(True)
        self.text.document().setDocumentMargin(10)
        head = QHBoxLayout()
        head.addWidget(self.choice, 1)
        head.addWidget(self.copy_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 8)
        layout.setSpacing(6)
        layout.addLayout(head)
        layout.addWidget(self.text, 1)
        self.setFocusProxy(self.choice)
        self.choice.activated.connect(self._choose)
        self.copy_button.clicked.connect(self._copy)
        self._fill()

    @property
    def key(self) -> str:
        """The adapter that is shown; empty where there is none."""
        return str(self.choice.currentData() or "")

    def set_reports(self, reports: Mapping[str, AdapterReport]) -> None:
        """Offer these reports by key; the one that is shown stays while it is among them."""
        if dict(reports) == self._reports:
            return
        shown = self.key
        self._reports = dict(reports)
        self.choice.clear()
        for key, report in reports.items():
            self.choice.addItem(key if key == report.name else f"{key} ({report.name})", key)
        self.set_shown(shown)

    def set_shown(self, key: str) -> None:
        """Show the report of an adapter; the first one where there is none by this key."""
        self.choice.setCurrentIndex(max(self.choice.findData(key), 0 if self._reports else -1))
        self._fill()

    def _choose(self) -> None:
        self._fill()
        self.chosen.emit(self.key)

    def _fill(self) -> None:
        report = self._reports.get(self.key)
        self.choice.setEnabled(report is not None)
        self.copy_button.setEnabled(report is not None)
        if report is None:
            self.text.setHtml(f'<p style="color:{current_theme().faint}">{NOTHING}</p>')
        else:
            self.text.setHtml(report_html(report, current_theme()))

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(report_text(self._reports[self.key]))

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._fill()


def summary(report: AdapterReport) -> str:
    """Say in one line how an adapter fits, such as ``210 of 210 modules matched, 1 warning``."""
    text = f"{report.matched} of {report.modules} modules matched"
    for severity, word in (("error", "error"), ("warning", "warning")):
        count = sum(finding.severity == severity for finding in report.findings)
        if count:
            text += f", {count} {word}{'s' if count > 1 else ''}"
    return text


def has_warnings(report: AdapterReport) -> bool:
    """Say whether a user should read a report: something does not act, or another program errs."""
    return bool(report.unmatched) or any(finding.severity != "info" for finding in report.findings)


def facts(report: AdapterReport) -> list[tuple[str, str]]:
    """Return what is known of an adapter, as (name, text)."""
    if report.matched is None:
        acts = f"{report.modules} modules, by itself: no base is open"
    else:
        acts = f"{report.matched} of its {report.modules} modules"
        acts += f"; it covers {report.covered} of the {report.base_modules} that the base has"
    return [
        ("Format", report.format),
        ("Acts", acts),
        ("Rank", _span([f"{rank}" for rank in report.ranks])),
        ("Alpha", _span([f"{alpha:g}" for alpha in report.alphas])),
    ]


def report_text(report: AdapterReport) -> str:
    """Return the whole report as plain text."""
    lines = [report.name, *(f"{name}: {text}" for name, text in facts(report))]
    for finding in report.findings:
        lines += ["", f"{SEVERITIES[finding.severity]}: {finding.message}."]
        lines += [f"  {program}: {what}" for program, what in finding.programs]
        lines += [f"  What to do: {finding.remedy}."] if finding.remedy else []
    if report.notes:
        lines += ["", "Notes", *(f"  {note}" for note in report.notes)]
    if report.unmatched:
        lines += ["", f"Modules that do not act ({len(report.unmatched)})"]
        lines += [f"  {module}" for module in report.unmatched]
    return "\n".join(lines)


def report_html(report: AdapterReport, theme: Theme) -> str:
    """Return the report as the rich text that Qt knows."""
    rows = "".join(
        f'<tr><td style="color:{theme.faint}; padding-right:16px">{name}</td><td>{escape(text)}</td></tr>'
        for name, text in facts(report)
    )
    parts = [f"<table cellspacing=0 cellpadding=1>{rows}</table>"]
    parts += [_finding_html(finding, theme) for finding in report.findings]
    if not report.findings:
        parts.append(
            f'<p style="color:{theme.good}">✓ Every program that the studio knows of reads it alike.</p>'
        )
    if report.notes:
        notes = "<br>".join(escape(note) for note in report.notes)
        parts.append(f'<p><span style="color:{theme.faint}">Notes</span><br>{notes}</p>')
    if report.unmatched:
        names = "<br>".join(escape(name) for name in report.unmatched)
        head = f"Modules that do not act ({len(report.unmatched)})"
        parts.append(f'<p><span style="color:{theme.warning}">{head}</span><br>{names}</p>')
    return "".join(parts)


def _finding_html(finding: Finding, theme: Theme) -> str:
    colours = {"error": theme.danger, "warning": theme.warning, "info": theme.accent}
    sign = {"error": "✕", "warning": "▲", "info": "●"}[finding.severity]
    head = (
        f'<span style="color:{colours[finding.severity]}">{sign} {SEVERITIES[finding.severity]}</span>'
        f"&nbsp; {escape(finding.message)}."
    )
    rows = [
        f'<tr><td style="color:{theme.faint}; padding-right:12px">{escape(name)}</td>'
        f"<td>{escape(text)}</td></tr>"
        for name, text in (*finding.programs, *([("What to do", finding.remedy)] if finding.remedy else []))
    ]
    table = f'<table cellspacing=0 cellpadding=1 style="margin-left:18px">{"".join(rows)}</table>'
    return f'<p style="margin-top:10px; margin-bottom:2px">{head}</p>{table if rows else ""}'


def _span(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
