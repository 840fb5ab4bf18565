"""New scales to last-token logits on a 64-token prompt, and decoding, with 0, 3 and 8 adapters."""

import itertools
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.demo import open_demo, prompt_tokens
from benchmarks.timing import Times, repeat
from studio.contracts import BlendChannel, BlendState, ExportRequest, Plugins, Sampling
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.lora.adapter import Adapter
from studio.registry import load_plugins
from studio.session.session import Session

COUNTS = (0, 3, 8)
REPETITIONS = 15
NEW_TOKENS = 32


def main(peers: str | None) -> None:
    """Print our times and, with the peers' environment, llama.cpp's and the ratio."""
    plugins = load_plugins()
    session = open_demo(plugins)
    assert session.base is not None
    three = [one for one in session.stack.by_key.values() if isinstance(one, Adapter)]
    adapters = {f"adapter {i}": one for i, one in zip(range(max(COUNTS)), itertools.cycle(three))}
    tokens = prompt_tokens(session)
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(session.base)
    engine.attach(adapters)
    print(engine.description)

    def blend(count: int, step: int) -> BlendState:
        keys = list(adapters)[:count]
        return BlendState(
            tuple(BlendChannel(key, adapters[key].version, 0.1 + 0.01 * (step % 50)) for key in keys)
        )

    for count in COUNTS:
        ours = repeat(lambda i: engine.evaluate(tokens, blend(count, i)), REPETITIONS)  # noqa: B023
        print(f"64 tokens, {count} adapters   {ours}")
        decoding = decode(engine, tokens, blend(count, 0))
        print(f"one token, {count} adapters   {decoding}")
        if peers:
            theirs = llama_cpp(peers, session, plugins, three, count, tokens)
            for title, mine in (("prompt", ours), ("decode", decoding)):
                peer = Times(tuple(theirs[title]))
                print(f"  llama.cpp {title}       {peer}   ours / theirs {mine.median / peer.median:.2f}")
    engine.close()
    session.base.close()
    if not peers:
        print("ours alone: no --peers PYTHON was given")


def decode(engine: LocalEngine, tokens: tuple[int, ...], state: BlendState) -> Times:
    """Time each new token of a greedy continuation but the first."""
    stream = engine.generate(tokens, state, Sampling(max_tokens=NEW_TOKENS + 2))
    return repeat(lambda _: next(stream), NEW_TOKENS, warm_up=1)


def llama_cpp(
    python: str,
    session: Session,
    plugins: Plugins,
    adapters: list[Adapter],
    count: int,
    tokens: tuple[int, ...],
) -> dict[str, Any]:
    """Run the same work in llama.cpp: milliseconds of `prompt` and `decode`.

    On some processors its repacked weights crash the process; it then runs without them and this says so.
    """
    assert session.base is not None
    exporter = next(one for one in plugins.exporters if one.name == "stacked adapter (GGUF)")
    script = Path(__file__).parent / "peers" / "llama_speed.py"
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for index, adapter in enumerate(itertools.islice(itertools.cycle(adapters), count)):
            path = Path(folder) / f"{index}.gguf"
            alone = BlendState((BlendChannel("one", adapter.version, 1.0),))
            request = ExportRequest(session.base, {"one": adapter}, alone)
            for _ in exporter.export(request, path, exporter.Options()):
                pass
            files.append(str(path))
        request_file = Path(folder) / "request.json"
        for repack in (True, False):
            asked: dict[str, Any] = {
                "base": str(session.base.path),
                "tokens": tokens,
                "adapters": files,
                "repack": repack,
            }
            asked |= {"repetitions": REPETITIONS, "new_tokens": NEW_TOKENS}
            request_file.write_text(json.dumps(asked), encoding="utf-8")
            done = subprocess.run(
                [python, str(script), str(request_file)], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
                return result
            print(
                "  (llama.cpp crashed with repacked weights; without them:)"
                if repack
                else done.stderr[-1000:]
            )
    raise SystemExit("llama.cpp failed")
