"""The process that runs chat templates: a script that imports nothing of the studio, so it starts at once.

It says ``"ready"`` first. Then it reads one JSON object a line: ``template``, ``variables``, ``messages`` and
``prefixes``, pairs of how many messages to write and whether to add the generation prompt. It answers with
one line: ``{"texts": [...]}``, one for each prefix, or ``{"error": kind, "message": ...}`` where the kind is
``refused``, ``faulty`` or ``limit``.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.parser import Parser

MEMORY_LIMIT = 512 * 2**20
TEXT_LIMIT = 4 * 2**20


class Refused(TemplateError):
    """The template called ``raise_exception``: it does not want these messages."""


class LimitReached(Exception):
    """The text grew past its limit."""


class GenerationTag(Extension):
    """Accept ``{% generation %}``, which marks words for training; here it changes nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Read the block and leave its body in place."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def raise_exception(message: str) -> NoReturn:
    """Refuse the messages: a function that templates call."""
    raise Refused(message)


def strftime_now(form: str) -> str:
    """Write the time of day: a function that templates call."""
    return datetime.now().strftime(form)


def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Write JSON as it is; Jinja's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def make_environment() -> ImmutableSandboxedEnvironment:
    """Make the sandbox with what chat templates expect to find."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationTag]
    )
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    environment.filters["tojson"] = to_json
    return environment


@lru_cache(maxsize=4)
def compiled(source: str) -> Template:
    """Compile a template once."""
    return make_environment().from_string(source)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer one request."""
    try:
        template = compiled(request["template"])
        texts = [
            render(
                template,
                {
                    **request["variables"],
                    "messages": request["messages"][:count],
                    "add_generation_prompt": add_generation_prompt,
                },
            )
            for count, add_generation_prompt in request["prefixes"]
        ]
    except Refused as error:
        return failure("refused", error)
    except (LimitReached, MemoryError, RecursionError, OverflowError) as error:
        return failure("limit", error)
    except Exception as error:  # whatever a stranger's template does is its own fault, and is reported
        return failure("faulty", error)
    return {"texts": texts}


def render(template: Template, variables: dict[str, Any]) -> str:
    """Write one text, up to the limit."""
    parts: list[str] = []
    size = 0
    for part in template.generate(variables):
        size += len(part)
        if size > TEXT_LIMIT:
            raise LimitReached(f"it writes more than {TEXT_LIMIT} characters")
        parts.append(part)
    return "".join(parts)


def failure(kind: str, error: Exception) -> dict[str, str]:
    """Put an error into words."""
    return {"error": kind, "message": (str(error) or type(error).__name__)[:500]}


def main() -> None:
    """Answer requests until the input ends."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    send("ready")
    for line in sys.stdin.buffer:
        send(answer(json.loads(line)))


def send(answer: object) -> None:
    """Write one line."""
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
