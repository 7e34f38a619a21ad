"""Published per-item outputs -> an ordinary result, without running anything.

    import_outputs("rewardmath", [Path("internlm2_reward.json")], load_suite("rewardmath"), Settings())

The result has a model of kind `published` and an engine `published` with the names and digests of the files; `compare`,
`rescore` and the leaderboard take it like any other.

What this module does not know: any format, the command line.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rmeval import api, results
from rmeval.errors import UsageError, near_miss
from rmeval.importers.imported import Imported, Importer, Published
from rmeval.models import Model
from rmeval.plugins import IMPORTERS
from rmeval.records import EngineRecord, ModelRecord, parse
from rmeval.suites import Data, Suite


def import_outputs(
    form: str, paths: Sequence[Path], suite: Suite, settings: api.Settings, *, name: str | None = None
) -> Path:
    """Write the result of published outputs and return its path.

    The suite's rows come from `settings.data`, else from the one path where it holds them too, else from the hub.
    `name` is the model's name where the files' own is not wanted. Metric options that the official rule asks for with
    such outputs are set unless `settings` sets them. Examples without published outputs are missing scores: beyond
    `settings.max_failed` the aggregates are withheld, and `api.raise_if_failed` raises.
    """
    importer: Importer = IMPORTERS.get(form)
    for path in paths:
        if not path.exists():
            siblings = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UsageError(f"{path}: no such file or folder. {near_miss(path.name, siblings)}".rstrip())
    results.check_writable(settings.out)
    data = _data(paths, suite, settings)
    imported = importer(paths, data.examples)
    model = named(form, imported, name)
    given = settings.metric_options or {}
    settings = replace(settings, metric_options={**imported.options, **given})
    return api.run_loaded(
        model,
        suite,
        data,
        data.examples,
        settings,
        engine=EngineRecord.model_validate({"name": "published", "files": _files(imported)}),
        notes=imported.notes,
    )


def named(form: str, imported: Imported, name: str | None) -> Model:
    """The model of published outputs. Raises `UsageError` for a name from a file that cannot stand in a result."""
    where = "--model" if name else f"the model's name in {imported.files[0]} (--model NAME gives another)"
    said = parse(ModelRecord, {"name": name or imported.model, "kind": "published"}, where)
    return Model(said.name, None, said.kind, Published(form, imported))


def _data(paths: Sequence[Path], suite: Suite, settings: api.Settings) -> Data:
    if settings.data is not None or len(paths) != 1:
        return suite.load(settings.data, settings.seed)
    try:
        return suite.load(paths[0])
    except UsageError as own:
        try:
            return suite.load(None, settings.seed)
        except UsageError as fault:
            first = " ".join(line.strip() for line in str(own).splitlines()[:2])
            raise UsageError(
                f"the rows of suite {suite.name!r} are needed, and --data does not say where they are.\n"
                f"  in the published file: {first}\n  elsewhere: {fault}"
            ) from None


def _files(imported: Imported) -> list[dict[str, str]]:
    """Names, below the folder that holds all of them, and digests of the files read."""
    folder = os.path.commonpath([path.absolute().parent for path in imported.files])
    return [
        {
            "name": path.absolute().relative_to(folder).as_posix(),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in imported.files
    ]
