"""`lora-studio inspect`: what a base or an adapter is, and how an adapter fits a base."""

import math
from collections import Counter
from typing import Annotated, Any

import typer

from studio.cli.command_line import Alpha, Json, LoaderOptions, with_alpha
from studio.cli.lint_command import lines_of, plain
from studio.cli.output import finish, print_json, print_table


def inspect(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Bases and adapters.", show_default=False)
    ],
    base: Annotated[
        str | None, typer.Option("--base", metavar="BASE", help="Report how the adapters fit this base.")
    ] = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    as_json: Json = False,
) -> None:
    """Say what a base or adapter is.

    With --base, report how the adapters fit that base.
    """
    from studio.cli.opening import known_options, open_adapter
    from studio.jobs.opening import open_base
    from studio.registry import load_plugins
    from studio.resources import resolve

    plugins = load_plugins(context.obj.safe_mode)
    options = known_options(with_alpha(loader_option, alpha), plugins)
    host = None if base is None else finish(open_base(base, plugins)).base
    found = []
    for text in paths:
        path = resolve(text).expanduser()
        if any(loader.recognises(path) for loader in plugins.model_loaders):
            opened = finish(open_base(text, plugins))
            found.append(describe_base(opened, text))
            opened.base.close()
        else:
            found.append(describe_adapter(open_adapter(text, host, plugins, options).report, text))
    if host is not None:
        host.close()
    if as_json:
        print_json({"files": found})
    else:
        for number, entry in enumerate(found):
            if number:
                print()
            show(entry)


def describe_base(opened: Any, path: str) -> dict[str, Any]:
    """Put what is worth knowing of an opened base into plain values."""
    base = opened.base

    def hyperparameter(name: str) -> Any:
        value = base.metadata.get(f"{base.architecture}.{name}")
        return value if isinstance(value, int | float) else None

    return {
        "kind": "base",
        "path": path,
        "name": base.name,
        "architecture": base.architecture,
        "type": base.file_type,
        "bytes": base.file_size,
        "parameters": sum(math.prod(info.shape) for info in base.tensors.values()),
        "tensors": dict(Counter(info.type_name for info in base.tensors.values())),
        "layers": hyperparameter("block_count"),
        "embedding": hyperparameter("embedding_length"),
        "heads": hyperparameter("attention.head_count"),
        "heads_kv": hyperparameter("attention.head_count_kv"),
        "context": hyperparameter("context_length"),
        "vocabulary": opened.tokenizer.vocabulary_size if opened.tokenizer else None,
        "tokenizer_error": str(opened.tokenizer_error) if opened.tokenizer_error else None,
    }


def describe_adapter(report: Any, path: str) -> dict[str, Any]:
    """Put the report on an adapter into plain values."""
    return {
        "kind": "adapter",
        "path": path,
        "name": report.name,
        "format": report.format,
        "modules": report.modules,
        "matched": report.matched,
        "base_modules": report.base_modules,
        "covered": report.covered,
        "unmatched": list(report.unmatched),
        "ranks": list(report.ranks),
        "alphas": list(report.alphas),
        "norm": sum(norm**2 for norm in report.norms.values()) ** 0.5 if report.norms else None,
        "norms": dict(report.norms),
        "notes": list(report.notes),
        "findings": [plain(finding) for finding in report.findings],
    }


def show(entry: dict[str, Any]) -> None:
    """Print one description for people."""
    rows = [["path", entry["path"]], ["kind", entry["kind"]], ["name", entry["name"]]]
    if entry["kind"] == "base":
        stored = ", ".join(f"{count} {kind}" for kind, count in entry["tensors"].items())
        rows += [
            ["architecture", entry["architecture"]],
            [
                "size",
                f"{entry['bytes'] / 1e6:.1f} MB, {entry['parameters'] / 1e6:.1f} M weights, {entry['type']}",
            ],
            ["tensors", stored],
            [
                "shape",
                f"{entry['layers']} x {entry['embedding']}, {entry['heads']} / {entry['heads_kv']} heads",
            ],
            ["context", f"{entry['context']} tokens"],
            ["vocabulary", entry["tokenizer_error"] or f"{entry['vocabulary']} tokens"],
        ]
    else:
        rows += [
            ["format", entry["format"]],
            ["modules", f"{entry['modules']} of its own"],
            ["rank", ", ".join(map(str, entry["ranks"]))],
            ["alpha", ", ".join(f"{alpha:g}" for alpha in entry["alphas"])],
        ]
        if entry["norm"] is not None:
            rows += [["norm", f"{entry['norm']:.4g} over all modules at scale 1"]]
        if entry["matched"] is not None:
            rows += [
                ["matched", f"{entry['matched']} of {entry['modules']} modules"],
                ["covers", f"{entry['covered']} of the base's {entry['base_modules']} modules"],
            ]
        rows += [["unmatched", name] for name in entry["unmatched"]]
        rows += [["note", note] for note in entry["notes"]]
        rows += [
            ["" if number else "lint", line.strip() if not number else line]
            for finding in entry["findings"]
            for number, line in enumerate(lines_of(finding))
        ]
    print_table(rows)
