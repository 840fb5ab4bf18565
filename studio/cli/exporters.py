"""Finding an exporter by what the command line says, and writing with it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from studio.cli.output import finish
from studio.contracts import Exported, Exporter, ExportRequest, Plugins
from studio.errors import UnsupportedError
from studio.formats.atomic import check_target
from studio.formats.atomic_folder import check_folder_target
from studio.jobs.exporting import STACKED, export
from studio.jobs.options import make_options
from studio.jobs.verifying import is_read_back

FOLDER = "PEFT directory"


def find_exporter(plugins: Plugins, name: str | None, target: Path) -> Exporter:
    """Return the exporter whose name this is or stands in, or the one that a target without a name tells.

    Raises
    ------
    UnsupportedError
        None is meant, or several are.
    """
    wanted = name or (STACKED if target.suffix.lower() == ".gguf" else FOLDER)
    exact = [one for one in plugins.exporters if one.name.lower() == wanted.lower()]
    found = exact or [one for one in plugins.exporters if wanted.lower() in one.name.lower()]
    if len(found) != 1:
        there = ", ".join(repr(one.name) for one in found or plugins.exporters)
        raise UnsupportedError(
            f"{len(found) or 'no'} exporters are called {wanted!r}", remedy=f"Choose one of {there}"
        )
    return found[0]


def check_exporter_target(exporter: Exporter, target: Path, protected: Iterable[Path] = ()) -> None:
    """Refuse a target before the work, one of the protected files above all. Raises `SaveError`."""
    (check_target if exporter.suffix else check_folder_target)(target, protected)


def write_export(
    request: ExportRequest,
    exporter: Exporter,
    target: Path,
    options: Mapping[str, object],
    *,
    verify: bool = False,
) -> Exported:
    """Write with an exporter, with progress on stderr.

    Raises
    ------
    UnsupportedError
        It is to be verified afterwards, and the studio does not read such exports back.
    StudioError
        It cannot be written.
    """
    made = make_options(exporter, options)
    if verify and not is_read_back(exporter, request, made):
        raise UnsupportedError(
            f"the studio does not read a {exporter.name} back, so it cannot be verified here",
            where="--verify",
            remedy="Leave --verify out",
        )
    exported: Exported = finish(export(request, exporter, target, made))
    return exported


def size_of(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
