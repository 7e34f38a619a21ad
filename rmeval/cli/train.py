"""`rmeval train`: reward models from data. The flags are the fields of the configurations in `rmeval.training.config`.

What this module does not know: losses, data, trainers, how a checkpoint is written.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.core import TyperGroup

from rmeval.cli import output

if TYPE_CHECKING:
    from rmeval.training.config import Kind, TrainConfig

KINDS = {
    "bt": "Bradley-Terry reward model from comparisons.",
    "orm": "Outcome reward model: is the answer right.",
    "prm": "Process reward model: is each step right.",
    "value": "Value model: the return from each token on.",
    "sft": "Supervised fine-tuning.",
}


class _Kinds(TyperGroup):
    """Commands made from the configurations when they are asked for: reading those takes longer than all else here."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*KINDS, *super().list_commands(ctx)]

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in KINDS:
            return super().get_command(ctx, name)
        one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        one.command(name)(_command(name))
        made = typer.main.get_command(one)
        made.name, made.short_help = name, KINDS[name]
        return made


app = typer.Typer(cls=_Kinds, no_args_is_help=True, add_completion=False)


@app.callback()
def _about() -> None:
    """Train a reward model."""


def _plain(annotation: Any) -> tuple[Any, str]:
    """(the type that typer reads a flag as, the choices where there are some) of a field's annotation."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return _plain(next(a for a in get_args(annotation) if a is not NoneType))
    if origin is Literal:
        return type(get_args(annotation)[0]), "|".join(map(str, get_args(annotation)))
    return annotation, ""


def _option(name: str, field: Any, config: type[TrainConfig]) -> inspect.Parameter:
    """The flag of a field. Nothing given is None, so that the configuration file or the default stands."""
    kind, choices = _plain(field.annotation)
    flag = "--" + name.replace("_", "-")
    words = (field.description or "").replace("\n", " ")
    if choices:
        words = f"{choices}. {words}"
    default = field.default
    if field.is_required():
        words += " Default: the bundled one." if config.bundled else " Required."
    elif default is not None and not isinstance(default, bool):
        words += f" Default: {default!r}." if isinstance(default, str) else f" Default: {default}."
    if name == "data":
        kind = list[str]
    elif name == "seeds":
        kind = str
    if name == "verify_export":
        option = typer.Option("--no-verify-export", help="Skip the check: " + words[0].lower() + words[1:])
    else:
        metavar = None if kind is bool or not choices else name.upper()
        option = typer.Option(flag, help=words, metavar=metavar, show_default=False)
    return _parameter(name, kind, option)


def _parameter(name: str, read_as: Any, option: Any) -> inspect.Parameter:
    """An optional keyword, as typer reads it."""
    annotation = Annotated.__class_getitem__((read_as | None, option))  # type: ignore[attr-defined]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_MORE: dict[str, tuple[Any, str]] = {
    "config": (Path, "TOML file with any of these settings; flags override it."),
    "resume": (Path, "Folder of a run that was cut off: go on with its settings from its last checkpoint."),
    "dry_run": (bool, "Check the data and show two rendered rows with their masks and all counts; train nothing."),
}


def _command(kind: str) -> Callable[..., None]:
    """The command of a kind."""
    from rmeval.training.config import CONFIGS

    config = next(c for c in CONFIGS.values() if c.kind == kind)

    def train(**given: Any) -> None:
        _train(config.kind, {name: value for name, value in given.items() if value is not None and value != []})

    options = [_option(name, field, config) for name, field in config.model_fields.items()]
    for name, (read_as, words) in _MORE.items():
        flag = typer.Option("--" + name.replace("_", "-"), help=words, show_default=False)
        options.append(_parameter(name, read_as, flag))
    train.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]  # typer reads it
    train.__annotations__ = {}
    train.__doc__ = config.__doc__
    return train


def _train(kind: Kind, given: dict[str, Any]) -> None:
    from rmeval.errors import UsageError
    from rmeval.training.config import make_config, read_config
    from rmeval.training.folders import settings_of
    from rmeval.training.run import dry_run, train
    from rmeval.training.seeds import train_seeds

    file, resume, dry = given.pop("config", None), given.pop("resume", None), given.pop("dry_run", False)
    if "verify_export" in given:  # the flag says no
        given["verify_export"] = False
    if "seeds" in given:
        given["seeds"] = _numbers(given["seeds"])
    if resume is not None:
        if given or file:
            raise UsageError("--resume takes the settings of the run it goes on with, and no others")
        config = make_config(kind, settings_of(resume, kind))
        report = train(config, resume=True, show=output.line, bench=_bench(config))
        output.line(str(report.out))
        _leave_if_one_of_several()
        return
    config = make_config(kind, {**(read_config(file, kind) if file else {}), **given})
    if dry:
        dry_run(config, show=output.line)
    elif config.seeds:
        output.line(str(train_seeds(config, show=output.line, bench=_bench(config))))
    else:
        output.line(str(train(config, show=output.line, bench=_bench(config)).out))
    _leave_if_one_of_several()


def _leave_if_one_of_several() -> None:
    """End one of the processes of torchrun without taking its interpreter down.

    Around gloo's threads that now and then aborts, which would be told as a failed training: in two of 34 pairs of
    processes on a busy machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _numbers(text: str) -> tuple[int, ...]:
    from rmeval.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seeds {text}: whole numbers with commas between them, such as 0,1,2") from None


def _bench(config: TrainConfig) -> Callable[[Path], dict[str, float]] | None:
    """What `--eval-bench` measures of a checkpoint while it trains."""
    if config.eval_bench is None:
        return None
    from rmeval.api import bench

    return bench(config.eval_bench, seed=config.seed)


@app.command("compare")
def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Two finished runs; default: the newest orm and prm under runs/.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of compare.png, .svg and .json.")] = Path(),
) -> None:
    """Overlay the curves of two runs: losses with their floors, and credit per step beside one score."""
    from rmeval.training.compare import compare_runs

    found = compare_runs(runs or [], out)
    for line in found.lines:
        output.line(line)
