"""`lora-studio verify`: whether an exported file answers as the live blend does."""

from typing import Annotated

import typer

from studio.cli.combination import Energy, Method, MethodOptions, Rank
from studio.cli.command_line import (
    AdapterGains,
    Alpha,
    Backend,
    Base,
    BlendAdapters,
    Json,
    LoaderOptions,
    Residency,
    with_alpha,
)
from studio.cli.output import print_json
from studio.cli.verification import (
    PromptFile,
    Prompts,
    agreement_as_json,
    leave_if_failed,
    show_agreement,
    texts_of,
    verify_export,
)


def verify(
    context: typer.Context,
    base: Base,
    exported: Annotated[
        str, typer.Argument(metavar="EXPORTED", help="The exported adapter or model.", show_default=False)
    ],
    adapter: BlendAdapters,
    prompt: Prompts = None,
    file: PromptFile = None,
    gains: AdapterGains = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    method: Method = None,
    method_option: MethodOptions = None,
    rank: Rank = 0,
    energy: Energy = 1.0,
    backend: Backend = "auto",
    weights: Residency = "auto",
    as_json: Json = False,
) -> None:
    """Compare an exported file with the blend it was made of.

    An adapter is put on the base at scale 1, a model runs by itself. The exit code is 3 where it differs by
    more than its type explains. A blend that was exported by a method, or cut, is made by that again.
    """
    from studio.cli.combination import find_combination
    from studio.cli.opening import known_options, open_session, own_options
    from studio.contracts import ExportRequest
    from studio.registry import load_plugins
    from studio.resources import resolve

    texts = texts_of(prompt, file)
    plugins = load_plugins(context.obj.safe_mode)
    combination = find_combination(plugins, method, method_option, rank, energy)
    path, options = resolve(exported).expanduser(), with_alpha(loader_option, alpha)
    with open_session(base, adapter, plugins, options, gains) as session:
        assert session.base is not None
        request = ExportRequest(session.base, session.stack.by_key, session.stack.blend, combination)
        own = own_options(path, plugins, known_options(options, plugins))
        agreement = verify_export(session, request, path, plugins, texts, backend, weights, own)
    if as_json:
        print_json(agreement_as_json(agreement))
    else:
        show_agreement(agreement)
    leave_if_failed(agreement)
