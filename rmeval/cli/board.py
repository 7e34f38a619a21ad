"""`rmeval leaderboard build`, `rmeval leaderboard serve` and `rmeval demo`.

What this module does not know: how ranks come about, what a demo trains.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmeval.cli import output

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

SUBMISSIONS = Path("leaderboard/submissions")
VERIFIED = Path("leaderboard/verified.jsonl")

Results = Annotated[list[Path] | None, typer.Argument(help="Result files or folders; default: results/.")]


@app.command("build")
def build(
    results: Results = None,
    out: Annotated[Path, typer.Option(help="Folder of leaderboard.json and the pages.")] = Path("leaderboard/site"),
    submissions: Annotated[Path, typer.Option(help="Submissions, each verified before it is shown.")] = SUBMISSIONS,
    verified: Annotated[Path, typer.Option(help="What maintainers recorded with `rmeval verify --record`.")] = VERIFIED,
    board_file: Annotated[Path | None, typer.Option("--board", help="A board.toml; default: the built-in one.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of score matrices kept for the next build; default: OUT.cache.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Measure every result anew, and keep nothing.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Processes that measure new results; 0: one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print leaderboard.json instead of tables.")] = False,
) -> None:
    """Rank the newest complete result or submission per model and suite, with rank ranges, and write the pages."""
    from rmeval.cli.tables import print_board
    from rmeval.content import content_folder
    from rmeval.leaderboard.board import build as build_board
    from rmeval.leaderboard.gather import processes
    from rmeval.leaderboard.intake import result_files
    from rmeval.locks import LOCK, locked
    from rmeval.progress import note

    files = result_files(results or [Path("results")])
    if submissions != SUBMISSIONS and not submissions.is_dir():
        note(f"--submissions {submissions}: no such folder; the board is built without submissions")
    if verified != VERIFIED and not verified.is_file():
        note(f"--verified {verified}: no such file; nothing on the board is `reproduced`")
    card = board_file or content_folder("leaderboard") / "board.toml"
    with locked(out / LOCK, f"the board in {out}"):
        board = build_board(
            files,
            out,
            card,
            submissions=submissions,
            verified=verified,
            cache=None if no_cache else cache or out.with_name(f"{out.name}.cache"),
            jobs=jobs or processes(),
            say=note,
        )
    print_board(board, out, as_json=as_json)


@app.command("serve")
def serve(
    site: Annotated[Path, typer.Argument(help="Folder that `rmeval leaderboard build` wrote.")] = Path(
        "leaderboard/site"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
) -> None:
    """Serve a built board to browsers on this machine, until Ctrl-C. The pages also open without it."""
    from rmeval.errors import UsageError
    from rmeval.leaderboard.serve import HOST, server

    if not (site / "index.html").is_file():
        raise UsageError(f"{site}: no board there; `rmeval leaderboard build --out {site}` writes one")
    try:
        running = server(site, port)
    except OSError as fault:
        raise UsageError(f"--port {port}: {fault.strerror or fault}; --port 0 takes a free one") from None
    with running:
        print(f"http://{HOST}:{running.server_port}/", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return


@app.callback()
def _about() -> None:
    pass


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Where everything is written; default: the next free runs/demo-NNN.")
    ] = None,
) -> None:
    """Train a small reward model offline, evaluate it beside the baselines, and build the board."""
    from rmeval.cli.tables import print_board
    from rmeval.demo import run_demo
    from rmeval.leaderboard.shape import claim
    from rmeval.training.folders import next_free

    board, site = run_demo(out or next_free(Path("runs"), "demo"))
    print_board(board, site, as_json=False)
    for suite in board.suites:
        best = suite.entries[0]
        for null, versus in best.versus.items():
            output.line(f"{best.model} {claim(null, versus)}")
    output.line(f"open {site / 'index.html'} in a browser")
