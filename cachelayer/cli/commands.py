"""Every command of `cachelayer`, its options and its help. What a command does lives in the room it imports, inside
the function: `cachelayer --help` loads none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cachelayer.cli.failure import USAGE, Failure

app = typer.Typer(
    name="cachelayer",
    pretty_exceptions_enable=False,
    suggest_commands=False,  # it takes `replay` for `explain`; see main.py
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--path", metavar="DIR", help="Folder of store and ledger. Default: CACHELAYER_PATH, or your cache folder."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with exact figures.")]

Key = Annotated[str, typer.Argument(metavar="KEY", help="Key of an entry, or a unique beginning of it.")]
RequestName = Annotated[
    str, typer.Argument(metavar="FILE|KEY", help="A request as JSON, - for stdin; or the key of an entry.")
]


def _rate(ends: str) -> typer.models.OptionInfo:
    return typer.Option(min=0, max=1, metavar="SHARE", help=f"Share of calls that {ends}.")  # type: ignore[no-any-return]


class By(StrEnum):
    """What a report is grouped by."""

    model = "model"
    namespace = "namespace"
    host = "host"
    day = "day"


@dataclass(frozen=True, slots=True)
class Globals:
    """The global options, given before or after the command."""

    path: Path | None
    as_json: bool

    @classmethod
    def of(cls, ctx: typer.Context, path: Path | None, as_json: bool) -> Globals:
        """What was given after the command, else before it."""
        before = ctx.find_object(Globals)
        assert before is not None
        return cls(before.path if path is None else path, as_json or before.as_json)


def _version(asked: bool) -> None:
    if asked:
        import cachelayer

        typer.echo(f"cachelayer {cachelayer.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    ctx: typer.Context,
    path: Folder = None,
    as_json: AsJson = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A cache for generative-image APIs, and a ledger of what it saved."""
    ctx.obj = Globals(path, as_json)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command(short_help="The main job, with no account.")
def demo(
    ctx: typer.Context,
    repeat_rate: Annotated[
        float, typer.Option(min=0, max=0.95, metavar="SHARE", help="Share of calls that ask again for something.")
    ] = 0.20,
    calls: Annotated[int, typer.Option(min=5, max=1500, metavar="N", help="Number of calls.")] = 300,
    latency_scale: Annotated[
        float, typer.Option(min=0, max=1, metavar="SCALE", help="An answer takes so many times 4 to 14 s.")
    ] = 0.025,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what earlier demos stored.")] = False,
    path: Annotated[
        Path | None, typer.Option("--path", metavar="DIR", help="Another folder for the demo's own store.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The main job with no account: real prompts through the real SDKs against a local simulator, then the report.

    Keeps a store of its own, cachelayer-demo in your cache folder, and never touches yours. The second run is all hits.
    """
    from cachelayer.demo.command import run

    given = Globals.of(ctx, path, as_json)
    run(
        given.path,
        repeat_rate=repeat_rate,
        calls=calls,
        latency_scale=latency_scale,
        fresh=fresh,
        as_json=given.as_json,
    )


@app.command(short_help="What was saved, and what was not cached.")
def report(
    ctx: typer.Context,
    since: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Only what ended in the last 30d, 12h, 10m, ... Default: everything."),
    ] = None,
    by: Annotated[By, typer.Option(metavar="model|namespace|host|day", help="What the groups are.")] = By.model,
    path: Folder = None,
    as_json: AsJson = False,
) -> None:
    """What was saved: calls, dollars and time, and why calls were not cached."""
    from cachelayer.cli.report import run

    given = Globals.of(ctx, path, as_json)
    run(given.path, since=since, by=by.value, as_json=given.as_json)


@app.command(short_help="The newest entries.")
def ls(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many.")] = 20,
    path: Folder = None,
    as_json: AsJson = False,
) -> None:
    """The newest entries."""
    from cachelayer.cli.entries import list_newest

    given = Globals.of(ctx, path, as_json)
    list_newest(given.path, limit=limit, as_json=given.as_json)


@app.command(short_help="One entry in full; its images as files.")
def show(
    ctx: typer.Context,
    key: Key,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the images there and print their paths.")
    ] = None,
    path: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Everything about one entry: where it came from, what it cost, its blobs and the request that it answers.

    Saved images are called KEY-1.png and so on, by what they are; no file is ever overwritten.
    """
    from cachelayer.cli.entries import show as run

    given = Globals.of(ctx, path, as_json)
    run(given.path, key, save=save, as_json=given.as_json)


@app.command(short_help="What of a request counts, and its key.")
def explain(
    ctx: typer.Context,
    file: RequestName,
    path: Folder = None,
    as_json: AsJson = False,
) -> None:
    """What the cache makes of a request, without sending it: its key, and every field that counts.

    FILE is JSON {method, url, headers, body | body_base64}, or - for stdin. A body may be an object, a list or a
    string. KEY, or a unique beginning of it, is a stored entry's: the request that it answers.
    """
    from cachelayer.cli.requests import explain as run

    given = Globals.of(ctx, path, as_json)
    run(given.path, file, as_json=given.as_json)


@app.command(short_help="Why two requests do not share an entry.")
def diff(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="A request, as explain takes it.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    path: Folder = None,
    as_json: AsJson = False,
) -> None:
    """In which fields two requests differ, as far as their keys go, and whether they are ever answered from the cache.

    The exit code is 0 whether they differ or not.
    """
    from cachelayer.cli.requests import diff as run

    given = Globals.of(ctx, path, as_json)
    run(given.path, a, b, as_json=given.as_json)


@app.command(short_help="Delete an entry, or all of them.")
def purge(
    ctx: typer.Context,
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Key of an entry, or a unique beginning of it.")
    ] = None,
    named: Annotated[str | None, typer.Option("--key", metavar="KEY", help="The same, as an option.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every entry of every namespace.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    path: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Delete an entry, its request, and the images that no other entry needs; or all of them.

    Asks first. Without a terminal and without --yes it does nothing, and the exit code is 2. The ledger keeps its
    figures, which hold no prompt and no image.
    """
    from cachelayer.cli.purge import run

    given = Globals.of(ctx, path, as_json)
    keys = [one for one in (key, named) if one is not None]
    if len(keys) + everything != 1:
        raise Failure("name one KEY to purge, or --all", USAGE)
    run(given.path, keys[0] if keys else None, yes=yes, as_json=given.as_json)


@app.command(short_help="Is everything in order? If not, what to do.")
def doctor(ctx: typer.Context, path: Folder = None, as_json: AsJson = False) -> None:
    """Check settings, folder, index, every blob, ledger and disk. Exit code 1 when there is a problem."""
    from cachelayer.cli.doctor import run

    given = Globals.of(ctx, path, as_json)
    run(given.path, as_json=given.as_json)


@app.command(short_help="A local provider to try things with.")
def simulate(
    ctx: typer.Context,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, metavar="N", help="Port to listen on; 0 takes a free one.")
    ] = 0,
    latency: Annotated[
        str, typer.Option(metavar="SECONDS", help="An answer takes so long: 2, or 4-14 to draw from.")
    ] = "0",
    rate_limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Calls a minute; what is above that gets a 429.")
    ] = None,
    error_rate: Annotated[float, _rate("get a 500")] = 0.0,
    block_rate: Annotated[float, _rate("are refused for their content")] = 0.0,
    text_only_rate: Annotated[float, _rate("get words and no image")] = 0.0,
    truncate_rate: Annotated[float, _rate("get an answer cut short by a limit")] = 0.0,
    disconnect_rate: Annotated[float, _rate("lose their connection in the middle of the answer")] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed, the same images and failures.")] = 0,
    path: Annotated[Path | None, typer.Option("--path", hidden=True)] = None,  # global, and nothing to it
    as_json: AsJson = False,
) -> None:
    """A local provider that speaks both wire formats and draws real images, until Ctrl-C."""
    from cachelayer.cli.simulate import run

    run(
        port=port,
        latency=latency,
        rate_limit=rate_limit,
        seed=seed,
        rates={
            "error_rate": error_rate,
            "block_rate": block_rate,
            "text_only_rate": text_only_rate,
            "truncate_rate": truncate_rate,
            "disconnect_rate": disconnect_rate,
        },
        as_json=Globals.of(ctx, path, as_json).as_json,
    )
