"""``zerorouter sandbox``: serve models that are played, for trying clients and gateways out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from zerorouter.cli.common import json_option, patterns, typed_errors

DEFAULT_PORT = 8_790
_EXAMPLE = "gpt-4o-mini-2024-07-18"


@click.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of recorded answers (docs/data.md); may be given several times.",
)
@click.option("--seed", default=0, show_default=True, help="Seeds whatever is drawn.")
@click.option(
    "--time-scale",
    default=0.0,
    show_default=True,
    help="Factor on latencies; 0 answers at once, 1 as slowly as the models do.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="RULE",
    help="[MODEL:]FAULT[=VALUE][@PROBABILITY][xTIMES], such as 'gpt-4o*:429=2@0.1'; repeatable.",
)
@click.option("--models", metavar="NAME,...", help="Further model names to serve.")
@click.option(
    "--p-correct",
    type=float,
    metavar="P",
    help="P(correct) of every answer that is not recorded, in place of the space's estimate.",
)
@click.option(
    "--answer-tokens",
    type=int,
    metavar="N",
    help="Length of every answer that is not recorded, in place of the profile's.",
)
@click.option("--chunk-tokens", default=1, show_default=True, help="Tokens in a stream's chunk.")
@click.option("--flush-chunks", is_flag=True, help="Write each chunk of a stream by itself.")
@click.option(
    "--api-key-env",
    metavar="VAR",
    help="Environment variable with the API keys to accept, commas between them.",
)
@json_option
@typed_errors
def command(
    host: str,
    port: int,
    data: tuple[Path, ...],
    seed: int,
    time_scale: float,
    faults: tuple[str, ...],
    models: str | None,
    p_correct: float | None,
    answer_tokens: int | None,
    chunk_tokens: int,
    flush_chunks: bool,
    api_key_env: str | None,
    as_json: bool,
) -> None:
    """Serve models that are played: OpenAI's and Anthropic's APIs, with no model behind them.

    Answers come from recorded ones where the prompt stands in the records, and are made up and
    marked as such otherwise. Runs until it is interrupted.
    """
    from zerorouter.sandbox import SandboxSettings, serve

    settings = SandboxSettings(
        data=data,
        seed=seed,
        time_scale=time_scale,
        models=patterns(models),
        p_correct=p_correct,
        answer_tokens=answer_tokens,
        chunk_tokens=chunk_tokens,
        flush_chunks=flush_chunks,
        faults=faults,
        api_keys=_keys(api_key_env),
    )

    def tell(url: str) -> None:
        if as_json:
            click.echo(json.dumps({"url": url, "openai_url": f"{url}/v1", "pid": os.getpid()}))
            return
        click.echo(f"The sandbox listens on {url} (OpenAI clients: {url}/v1); Ctrl-C ends it.")
        key = f' -H "authorization: Bearer ${{{api_key_env}%%,*}}"' if api_key_env else ""
        body = {"model": _EXAMPLE, "messages": [{"role": "user", "content": "What is 17 * 23?"}]}
        click.echo(
            f"Try: curl {url}/v1/chat/completions -H 'content-type: application/json'{key} "
            f"-d '{json.dumps(body)}'"
        )

    serve(settings, host=host, port=port, on_ready=tell)


def _keys(variable: str | None) -> frozenset[str]:
    from zerorouter.errors import ConfigError

    if variable is None:
        return frozenset()
    keys = frozenset(patterns(os.environ.get(variable)))
    if not keys:
        raise ConfigError(
            f"--api-key-env names {variable}, which is not set; set it, or leave the option out to "
            "accept every request"
        )
    return keys


if __name__ == "__main__":
    command()
