"""How an exported file is used elsewhere: the command line of llama-server, and a Modelfile for Ollama."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from studio.errors import SaveError
from studio.formats.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from studio.contracts import BaseModel

MODELFILE = "Modelfile"
MODELFILE_HEAD = "# Written by LoRA Studio"
"""How our own Modelfiles begin, which alone may be replaced."""


def llama_server_command(model: Path, adapter: Path | None = None) -> str:
    """Return the command line that serves a model, with an adapter where there is one; paths are quoted."""
    lora = "" if adapter is None else f" --lora {shlex.quote(str(adapter))}"
    return f"llama-server -m {shlex.quote(str(model))}{lora}"


def modelfile_text(model: Path, adapter: Path | None = None) -> str:
    """Return what Ollama builds a model of. https://docs.ollama.com/modelfile."""
    lines = [MODELFILE_HEAD, f"FROM {_argument(model)}"]
    if adapter is not None:
        lines.append(f"ADAPTER {_argument(adapter)}")
    return "\n".join(lines) + "\n"


def check_modelfile(exported: Path) -> None:
    """Refuse, before the work, to write a Modelfile beside an export over one that somebody else wrote.

    Raises
    ------
    SaveError
        There is one.
    """
    path = exported.with_name(MODELFILE)
    try:
        with path.open("rb") as file:
            ours = file.read(len(MODELFILE_HEAD)) == MODELFILE_HEAD.encode()
    except FileNotFoundError:
        return
    except OSError:
        ours = False
    if not ours:
        raise SaveError("there is one already", path=path, remedy="Export to another folder, or rename it")


def write_modelfile(exported: Path, base: BaseModel, *, adapter: Path | None = None) -> Path:
    """Write a Modelfile beside an export and return its path.

    Parameters
    ----------
    exported
        The file that was exported.
    base
        Its base, which an adapter is loaded with.
    adapter
        The export where it is an adapter; None where it is a model by itself.

    Raises
    ------
    SaveError
        Somebody else's Modelfile stands there, or it cannot be written.
    """
    check_modelfile(exported)
    path = exported.with_name(MODELFILE)
    if adapter is None:
        text = modelfile_text(exported.absolute())
    else:
        text = modelfile_text(base.path.absolute(), adapter.absolute())

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)
    return path


def _argument(path: Path) -> str:
    """Quote a path as Ollama's own printing of a Modelfile does, where it is needed."""
    text = str(path)
    if "\n" in text or text != text.strip() or text.startswith('"'):
        return f'"""{text}"""' if '"' in text else f'"{text}"'
    return text
