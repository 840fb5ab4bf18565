"""`lora-studio lint`: what an adapter's file would do in other programs, and what to do about it."""

from typing import Annotated, Any

import typer

from studio.cli.command_line import Alpha, Json, LoaderOptions, with_alpha
from studio.cli.output import finish, print_json


def lint(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Adapters.", show_default=False)],
    base: Annotated[
        str | None, typer.Option("--base", metavar="BASE", help="The base they are for; it tells more.")
    ] = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    as_json: Json = False,
) -> None:
    """Say where other programs read an adapter in another way than it is meant, and the remedy.

    Exits with 1 where an adapter is refused.
    """
    from studio.cli.opening import known_options, open_adapter
    from studio.contracts import Finding
    from studio.errors import StudioError
    from studio.jobs.opening import open_base
    from studio.registry import load_plugins

    plugins = load_plugins(context.obj.safe_mode)
    options = known_options(with_alpha(loader_option, alpha), plugins)
    host = None if base is None else finish(open_base(base, plugins)).base
    files = []
    for text in paths:
        try:
            report = open_adapter(text, host, plugins, options).report
            files.append(describe(text, report.name, report.format, report.findings))
        except StudioError as error:
            where = () if error.where is None else (error.where,)
            refusal = Finding("refused", "error", error.message, remedy=error.remedy or "", where=where)
            files.append(describe(text, None, None, (refusal,)))
    if host is not None:
        host.close()
    if as_json:
        print_json({"files": files})
    else:
        for number, file in enumerate(files):
            if number:
                print()
            show(file, alone=base is None)
    if any(finding["severity"] == "error" for file in files for finding in file["findings"]):
        raise typer.Exit(1)


def describe(path: str, name: str | None, format: str | None, findings: Any) -> dict[str, Any]:
    """Put the findings on one file into plain values."""
    return {
        "path": path,
        "name": name,
        "format": format,
        "findings": [plain(finding) for finding in findings],
    }


def plain(finding: Any) -> dict[str, Any]:
    """Put one finding into plain values."""
    return {
        "topic": finding.topic,
        "severity": finding.severity,
        "message": finding.message,
        "programs": [{"program": program, "does": does} for program, does in finding.programs],
        "remedy": finding.remedy,
        "where": list(finding.where),
    }


def show(file: dict[str, Any], *, alone: bool) -> None:
    """Print the findings on one file for people; `alone` says that it was read without a base."""
    print(f"{file['path']}: {file['format'] or 'refused'}")
    if not file["findings"]:
        also = "; --base may tell more" if alone else ": every program that reads it reads it alike"
        print(f"  nothing to report{also}")
    for finding in file["findings"]:
        for line in lines_of(finding):
            print(f"  {line}")


def lines_of(finding: dict[str, Any]) -> list[str]:
    """Write one finding: what there is, what each program does, what to do."""
    where = "" if finding["severity"] != "error" or not finding["where"] else f"{finding['where'][0]}: "
    lines = [f"{finding['severity']}: {where}{finding['message']} [{finding['topic']}]"]
    lines += [f"    {one['program']}: {one['does']}" for one in finding["programs"]]
    return [*lines, f"    remedy: {finding['remedy']}"] if finding["remedy"] else lines
