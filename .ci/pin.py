"""Rewrites the exact versions in pyproject.toml: `uv run --no-project python .ci/pin.py [--upgrade]`.

uv.lock is not committed, because it records where packages were downloaded from. Instead every version,
that of a dependency's dependency included, stands in `[tool.uv] constraint-dependencies`, which this script
writes from a fresh lock. Without --upgrade the versions that stand there already are kept and only the
missing ones are added.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
LOCK = ROOT / "uv.lock"
CONSTRAINTS = re.compile(r"^constraint-dependencies = \[\n.*?^\]\n", re.MULTILINE | re.DOTALL)


def write(pins: list[str]) -> None:
    """Put these pins in place of the ones that stand in pyproject.toml."""
    block = "constraint-dependencies = [\n" + "".join(f'    "{pin}",\n' for pin in pins) + "]\n"
    text = PROJECT.read_text(encoding="utf-8")
    if not CONSTRAINTS.search(text):
        sys.exit("pyproject.toml has no constraint-dependencies to rewrite")
    PROJECT.write_text(CONSTRAINTS.sub(lambda _: block, text), encoding="utf-8")


def locked() -> list[str]:
    """Lock the project anew and list what the lock holds as pins."""
    LOCK.unlink(missing_ok=True)
    subprocess.run(["uv", "lock"], cwd=ROOT, check=True)
    packages = tomllib.loads(LOCK.read_text(encoding="utf-8"))["package"]
    versions: dict[str, str] = {}
    for package in packages:
        if "registry" not in package["source"]:
            continue  # the project itself
        if versions.setdefault(package["name"], package["version"]) != package["version"]:
            sys.exit(f"two versions of {package['name']} are locked; narrow its range in pyproject.toml")
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def main() -> None:
    """Rewrite the pins."""
    before = PROJECT.read_text(encoding="utf-8")
    try:
        if "--upgrade" in sys.argv[1:]:
            write([])
        write(locked())
    except BaseException:
        PROJECT.write_text(before, encoding="utf-8")
        raise


if __name__ == "__main__":
    main()
