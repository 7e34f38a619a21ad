"""The result file: one run of one model on one suite, and everything needed to compute its numbers again.

    <out>/<org>__<model>/<suite>/<utc>-<fingerprint7>.json                     `Result`, in the shape published by
    <out>/<org>__<model>/<suite>/<utc>-<fingerprint7>-samples.jsonl.gz         `rmeval schema result` and `... samples`

The samples are written first and the result last, each by an atomic rename, so a result that exists is whole.

What this module does not know: scorers, engines, the store, how a metric is computed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmeval import environment, samples, strict_json
from rmeval.errors import UsageError, near_miss
from rmeval.metrics.evaluate import evaluate, withhold
from rmeval.metrics.plan import MetricPlan, RuleSpec
from rmeval.plugins import METRICS
from rmeval.records import (
    SCHEMA,
    Counts,
    EngineRecord,
    Environment,
    ModelRecord,
    Result,
    SamplesRecord,
    ScorerRecord,
    ShardRecord,
    SuiteRecord,
    TextRecord,
    Usage,
    parse,
)
from rmeval.types import JSON, Judgement, Metric
from rmeval.whole_files import check_writable as check_writable  # noqa: PLC0414 - offered here too
from rmeval.whole_files import write_whole as write_whole  # noqa: PLC0414

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

MAX_BYTES = 32 * 2**20
"""Size above which a result file is not read."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema number -> what turns a file of that number into one of the next."""

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_STAMP = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A result before it is written: all that a run knows. Digests, headline and time are added by `write`."""

    complete: bool
    model: ModelRecord
    suite: SuiteRecord
    scorer: ScorerRecord
    engine: EngineRecord | None
    text: TextRecord | None = None
    metrics: Sequence[Metric]
    """The headline first, as `rmeval.metrics.evaluate` returns them."""
    counts: Counts = field(default_factory=Counts)
    usage: Usage = field(default_factory=Usage)
    environment: Environment
    metric_options: Mapping[str, JSON] = field(default_factory=dict)
    rescored_from: str | None = None
    withheld: str = ""
    notes: Sequence[str] = ()
    shard: ShardRecord | None = None


def fingerprint(
    model: ModelRecord,
    suite: SuiteRecord,
    scorer: ScorerRecord,
    engine: EngineRecord | None,
    metric_options: Mapping[str, JSON] | None = None,
    *,
    shard: ShardRecord | None = None,
) -> str:
    """The id of a result: sha256 in hex over what was asked; not over the answer, the time or the place."""
    asked = {
        "model": {"name": model.name, "revision": model.revision, "kind": model.kind},
        "suite": suite.model_dump(mode="json"),
        "scorer": scorer.model_dump(mode="json"),
        "engine": engine.model_dump(mode="json") if engine else None,
        "metric_options": dict(metric_options or {}),
        **({"shard": [shard.index, shard.of]} if shard else {}),  # a whole run keeps its id
    }
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def current_environment(
    *,
    device: str = "cpu",
    threads: int | None = None,
    engine: Mapping[str, JSON] | None = None,
    argv: Sequence[str] | None = None,
    started: datetime | None = None,
) -> Environment:
    """The environment record of this process; `engine` is what the engine's `describe()` says."""
    described = environment.describe(device=device, threads=threads, engine=engine, argv=argv)
    return parse(Environment, {**described, "started": started and f"{started:{_STAMP}}"}, "environment")


def path_part(name: str) -> str:
    """A model or suite name as one safe path part: a slash becomes `__`, a folder is called by its own name.

    >>> path_part("org/model"), path_part("../../etc/x"), path_part("replay:/tmp/a b.jsonl"), path_part("-length")
    ('org__model', 'x', 'replay_a_b.jsonl', '_length')
    """
    prefix, colon, rest = name.partition(":") if re.match(r"[a-z]+:", name) else ("", "", name)
    if re.match(r"[/~.\\]|[A-Za-z]:\\", rest) or rest.count("/") > 1 or Path(rest).is_dir():
        rest = re.split(r"[/\\]", rest.rstrip("/\\."))[-1]
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", f"{prefix}{colon}{rest}".replace("/", "__"))
    if not safe or safe[0] in ".-":
        safe = "_" + safe[1:]
    if _RESERVED.fullmatch(safe):
        safe = f"_{safe}"
    if len(safe) > 96:
        safe = f"{safe[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return safe


def write(draft: Draft, judgements: Sequence[Judgement], out: Path, *, created: datetime | None = None) -> Path:
    """Write a result and its samples below `out` and return the path of the result file.

    `created` defaults to now. A full disk raises `ResourceError` and leaves no result behind.
    """
    created = (created or datetime.now(UTC)).astimezone(UTC)
    run_id = fingerprint(draft.model, draft.suite, draft.scorer, draft.engine, draft.metric_options, shard=draft.shard)
    folder = out / path_part(draft.model.name) / path_part(draft.suite.name)
    stem = first = f"{created:%Y%m%dT%H%M%SZ}-{run_id[:7]}"
    again = 1
    while (folder / f"{stem}.json").exists():
        again += 1
        stem = f"{first}-{again}"
    content, rows = samples.dump(judgements)
    held = SamplesRecord(file=f"{stem}-samples.jsonl.gz", sha256=hashlib.sha256(content).hexdigest(), rows=rows)
    result = _assemble(draft, run_id, created, held)
    write_whole(folder / held.file, content)
    write_whole(folder / f"{stem}.json", to_json(result).encode("utf-8"))
    return folder / f"{stem}.json"


def to_json(result: Result) -> str:
    """The text of a result file: strict JSON, keys in the schema's order."""
    return json.dumps(to_dict(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_dict(result: Result) -> dict[str, Any]:
    """A result as plain JSON values, for instance for `--json`."""
    content: dict[str, Any] = result.model_dump(mode="json", by_alias=True)
    return content


def read(path: Path) -> Result:
    """A result file, checked in full and brought to the newest schema. `UsageError` names file and fault."""
    if path.is_dir():
        raise UsageError(f"{path}: a folder; name a result file in it (<time>-<fingerprint>.json)")
    if not path.is_file():
        raise UsageError(f"{path}: no such result file")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES >> 20} MiB, which no result file is")
    return validate(strict_json.read(path), str(path))


def validate(value: Any, where: str) -> Result:
    """A result from parsed JSON of any known schema number; `UsageError` with every fault, opened by `where`."""
    return parse(Result, migrate(value, where), where)


def migrate(value: Any, where: str) -> dict[str, Any]:
    """The content of a result file in the newest schema, whatever known number it was written in."""
    if not isinstance(value, dict) or type(value.get("schema")) is not int:
        raise UsageError(f"{where}: not a result file: it has no `schema` number")
    while value["schema"] != SCHEMA:
        number = value["schema"]
        if number not in MIGRATIONS:
            newer = " A newer rmeval wrote it." if number > SCHEMA else ""
            raise UsageError(f"{where}: schema {number} is not known; this rmeval reads up to {SCHEMA}.{newer}")
        value = {**MIGRATIONS[number](value), "schema": number + 1}
    return dict(value)


def judgements(result: Result, path: Path) -> tuple[Judgement, ...]:
    """The rows of a result's samples file, which lies beside the result file `path`.

    Raises `UsageError` when the file is missing or altered, and names the line of a faulty row.
    """
    return samples.load(samples.beside(result.samples, path), result.samples.rows)


MANY = 20_000
"""Rows from which on they are read as columns, where they are plain."""


def rows(result: Result, path: Path) -> Sequence[Judgement]:
    """`judgements`, many of them as a `rmeval.metrics.table.Table`."""
    beside, n = samples.beside(result.samples, path), result.samples.rows
    table = samples.load_table(beside, n) if n >= MANY else None
    return samples.load(beside, n) if table is None else table


def compared(result: Result) -> dict[str, Any]:
    """What "equal" means for two results: the content without time, cost, place, cache hits and file name."""
    content = to_dict(result)
    for key in ("created", "usage", "environment"):
        del content[key]
    del content["counts"]["cached"]
    del content["samples"]["file"]
    return content


def json_schema(kind: str, more: Mapping[str, type[BaseModel]] | None = None) -> dict[str, Any]:
    """The JSON Schema of a file format: `result`, `samples` (one row), `suite` or `scorer` (TOML cards).

    `more`: formats that are not known here, by name.
    """
    from rmeval.cards import ScorerCard, SuiteCard

    models: dict[str, type[BaseModel]] = {
        "result": Result,
        "samples": samples.SampleRow,
        "suite": SuiteCard,
        "scorer": ScorerCard,
        **(more or {}),
    }
    if kind not in models:
        raise UsageError(f"unknown schema {kind!r}. {near_miss(kind, models)} Known: {', '.join(sorted(models))}.")
    schema: dict[str, Any] = models[kind].model_json_schema(by_alias=True)
    return schema


def metrics_of(result: Result) -> tuple[Metric, ...]:
    """The metrics of a result as plain values, the headline first."""
    return tuple(
        Metric(m.name, m.value, m.subset, m.ci, m.n, m.n_missing, m.higher_is_better, m.note, m.unit)
        for m in result.metrics
    )


@dataclass(frozen=True, slots=True)
class ResultView:
    """A result with its rows, as `rmeval.load_result` returns it."""

    path: Path
    result: Result
    judgements: tuple[Judgement, ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All numbers, the headline first."""
        return metrics_of(self.result)

    @property
    def headline(self) -> Metric:
        """The one number of the suite."""
        return self.metrics[0]

    def to_pandas(self) -> pd.DataFrame:
        """One row per example and candidate: ids, grade, score, reason, tokens, length. A missing score is NaN.

        A column of another kind of score (`step_scores`, `ratings`) stands only where the run has it; verdicts are
        about several candidates at once and stay in `judgements`.
        """
        import pandas as pd

        rows = []
        for j in self.judgements:
            columns = {
                "grade": j.grades, "score": j.scores, "reason": j.reasons, "step_scores": j.step_scores,
                "ratings": j.ratings, "n_tokens": j.n_tokens, "truncated": j.truncated, "length": j.lengths,
            }  # fmt: skip
            k = max(len(values) for values in (j.grades, j.scores, j.step_scores, j.ratings, j.lengths))
            for i in range(k):
                row: dict[str, Any] = {
                    "id": j.id, "subset": j.subset, "group": j.group, "cluster": j.cluster, "candidate": i,
                }  # fmt: skip
                row |= {name: values[i] for name, values in columns.items() if i < len(values)}
                rows.append(row)
        return pd.DataFrame(rows)


def load_result(path: Path | str) -> ResultView:
    """A result file with its samples, checked."""
    path = Path(path)
    result = read(path)
    return ResultView(path, result, judgements(result, path))


def rescore(
    path: Path, plan: MetricPlan, options: Mapping[str, JSON] | None = None, *, created: datetime | None = None
) -> Result:
    """The same samples under the suite's plan again, with changed rule options such as `ties=win`; no model runs.

    An option applies to every rule of the plan that knows it; one that none knows raises `UsageError`. The result says
    which definition is in force, keeps what was withheld withheld, and is not written:
    `write(as_draft(result), judgements, out)` does that.
    """
    old = read(path)
    options = {**old.metric_options, **(options or {})}
    metrics = evaluate(rows(old, path), with_options(plan, options))
    if old.withheld:
        metrics = withhold(metrics, old.withheld)
    said = ", ".join(f"{key} = {json.dumps(value)}" for key, value in sorted(options.items()))
    note = f"scored again from stored samples under {said or 'the official definition'}"
    draft = replace(
        as_draft(old),
        metrics=metrics,
        metric_options=options,
        rescored_from=old.id,
        notes=(*(n for n in old.notes if not n.startswith("scored again")), note),
    )
    run_id = fingerprint(draft.model, draft.suite, draft.scorer, draft.engine, options, shard=draft.shard)
    return _assemble(draft, run_id, created or datetime.now(UTC), old.samples)


def with_options(plan: MetricPlan, options: Mapping[str, JSON]) -> MetricPlan:
    """The plan with rule options changed in every rule that takes them; `plan.also` keeps the options that it names.

    The option `definition` names another definition of the headline that the suite's card knows, or `official`. Raises
    `UsageError`, with the near miss, for an option or value that no section's rule takes.
    """
    for option, value in options.items():
        if option == "definition":
            plan = replace(plan, definition=_definition(plan, value))
            continue
        sections, refusals = [], []
        for section in plan.sections:
            try:
                sections.append(replace(section, rule=_with_option(section.rule, option, value)))
            except UsageError as refusal:
                refusals.append(refusal)
                sections.append(section)
        if len(refusals) == len(sections):
            raise refusals[0]
        also = []
        for rule in plan.also:
            # RewardMATH's "ties win" stands beside the headline as its contrast; its step aggregate must follow
            with contextlib.suppress(UsageError):
                rule = rule if option in rule.options else _with_option(rule, option, value)  # noqa: PLW2901
            also.append(rule)
        plan = replace(plan, sections=tuple(sections), also=tuple(also))
    return plan


def _definition(plan: MetricPlan, value: JSON) -> str | None:
    known = ["official", *(d.name for d in plan.definitions if not d.is_part)]
    if value not in known:
        raise UsageError(
            f"metric.definition: {value!r} is none of {', '.join(known)}. {near_miss(str(value), known)}".rstrip()
        )
    return None if value == "official" else str(value)


def _with_option(rule: RuleSpec, option: str, value: JSON) -> RuleSpec:
    changed = RuleSpec(rule.name, {**rule.options, option: value})
    METRICS.get(changed.name)((), changed.options)  # refuses what the rule does not take
    return changed


def as_draft(result: Result) -> Draft:
    """The draft of a result, for writing it again."""
    kept = ("complete", "model", "suite", "scorer", "engine", "counts", "usage", "environment", "withheld", "notes")
    return Draft(
        **{name: getattr(result, name) for name in kept},
        text=result.text,
        metrics=metrics_of(result),
        metric_options=result.metric_options,
        rescored_from=result.rescored_from,
        shard=result.shard,
    )


def _assemble(draft: Draft, run_id: str, created: datetime, held: SamplesRecord) -> Result:
    head = draft.metrics[0]
    content = {
        "schema": SCHEMA,
        "id": run_id,
        "created": f"{created:{_STAMP}}",
        "complete": draft.complete,
        "headline": {"name": head.name, "value": head.value, "ci": head.ci},
        "metrics": [asdict(metric) for metric in draft.metrics],
        "samples": held.model_dump(mode="json"),
        "metric_options": dict(draft.metric_options),
        "rescored_from": draft.rescored_from,
        "withheld": draft.withheld,
        "notes": list(draft.notes),
    }
    for name in ("model", "suite", "scorer", "shard", "engine", "text", "counts", "usage", "environment"):
        record = getattr(draft, name)
        content[name] = record.model_dump(mode="json") if record is not None else None
    return parse(Result, content, f"result of {draft.model.name!r} on {draft.suite.name!r}")
