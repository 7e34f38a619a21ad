"""The public Python API, and what the command line calls: run a model on suites, score a user's own texts.

    import rmeval
    result = rmeval.run("length", "arithmetic")
    result.headline.value                     # as in the result file
    result.to_pandas()                        # one row per example and candidate
    scorer = rmeval.load_scorer("length")
    rmeval.score(scorer, "What is 2+2?", ["4", "four, of course"])

What this module does not know: the command line, tables, pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rmeval import results, runner, shards
from rmeval.engines import hygiene
from rmeval.errors import CheckFailed, UsageError
from rmeval.gather import unscored
from rmeval.metrics.convert import missing_reason, scores_of
from rmeval.metrics.evaluate import evaluate, withhold
from rmeval.metrics.plan import MetricPlan
from rmeval.models import Model, load_model
from rmeval.plugins import METRICS
from rmeval.progress import note
from rmeval.protocols import ByStep, FollowsPreset, Priced, Scorer
from rmeval.records import Counts, DataRecord, EngineRecord, ModelRecord, Result, ScorerRecord, SuiteRecord, Usage
from rmeval.scorers.ensemble import Ensemble
from rmeval.scorers.replay import Replay
from rmeval.shards import Shard
from rmeval.store import Store, home
from rmeval.suites import Data, Suite, load_suite, stratified_sample
from rmeval.types import JSON, NAN, SKIPPED, Candidate, Example, Judgement, Labels, Message, Score, Verdict
from rmeval.whole_files import refuse_without_room

BENCH_EXAMPLES = 200
"""Examples of a suite while a model trains."""
NO_CEILING = 0
"""Failures accepted by default before aggregates are withheld."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about a run but the model and the suite."""

    data: Path | None = None
    """Read the suite's rows from here instead of from the hub."""
    limit: float | None = None
    """Examples (int) or share (below 1): seeded, stratified by subset."""
    seed: int = 0
    out: Path = Path("results")
    store: Path | None = None
    max_failed: int = NO_CEILING
    metric_options: Mapping[str, Any] | None = None
    skip_bad_rows: bool = False
    """Leave out malformed rows instead of refusing the data."""
    shard: Shard | None = None
    """Score this part of the run alone."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do, without weights: the answer of `--dry-run`."""

    suite: str
    examples: int
    candidates: int
    requests: int
    distinct: int
    tokens: int
    batches: int
    too_long: int
    cost: str
    """Calls, tokens and cost of a judge behind a server, in words; empty for weights of our own."""
    writes: str


def run(
    model: str,
    suite: str,
    *,
    scorer: str | None = None,
    engine: str = "transformers",
    args: Mapping[str, Mapping[str, Any]] | None = None,
    data: str | Path | None = None,
    limit: float | None = None,
    seed: int = 0,
    out: str | Path = "results",
    store: str | Path | None = None,
    max_failed: int = NO_CEILING,
    base_url: str | None = None,
    max_cost: float | None = None,
    skip_bad_rows: bool = False,
    shard: str | None = None,
) -> results.ResultView:
    """Evaluate a model on a suite, write the result and return it with its rows.

    `args` holds scoped arguments: {"scorer": {...}, "engine": {...}, "judge": {...}, "metric": {...}}. When more than
    `max_failed` candidates fail, the result is written with its aggregates withheld; look at `result.complete` and
    `withheld`. `base_url` and `max_cost` are for a judge behind a server. `skip_bad_rows` leaves out malformed rows,
    which makes the result incomplete.
    """
    given = args or {}
    settings = Settings(
        data=Path(data) if data is not None else None,
        limit=limit,
        seed=seed,
        out=Path(out),
        store=Path(store) if store is not None else None,
        max_failed=max_failed,
        metric_options=given.get("metric"),
        skip_bad_rows=skip_bad_rows,
        shard=Shard.parse(shard) if shard is not None else None,
    )
    on = load_suite(suite)
    loaded = load_model(
        model,
        scorer=scorer,
        engine=engine,
        given=given,
        base_url=base_url,
        max_cost=max_cost,
        by_step=on.card.kind == "process",
    )
    return results.load_result(run_suite(loaded, on, settings))


def run_suite(model: Model, suite: Suite, settings: Settings) -> Path:
    """Score, evaluate and write; return the path of the result file."""
    results.check_writable(settings.out)
    preset = _follow_preset(model, suite)
    data, examples = _examples(model, suite, settings)
    if preset:
        note(f"{suite.name}: {preset}")
    return run_loaded(model, suite, data, examples, settings, notes=_strings(model.details.get("notes")))


def run_loaded(
    model: Model,
    suite: Suite,
    data: Data,
    examples: Sequence[Example],
    settings: Settings,
    *,
    engine: EngineRecord | None = None,
    notes: tuple[str, ...] = (),
) -> Path:
    """`run_suite` on examples at hand, which are `data.examples` or some of them, or the shard's part of those.

    `engine` says what ran the weights where the model has no engine of ours; `notes` go into the result.
    """
    if model.engine is not None:
        engine = EngineRecord.model_validate({"name": model.engine.name, **model.engine.fingerprint()})
    plan = results.with_options(suite.plan, settings.metric_options or {})
    _refuse_bad_rules(suite, plan)
    path = settings.store or home() / "replies.sqlite"
    refuse_without_room(path.parent)
    started = datetime.now(UTC)
    for text in (*data.notes, *notes):
        note(f"{suite.name}: {text}")
    shard, whole, at = settings.shard, len(examples), shards.places(settings.shard, examples) if settings.shard else ()
    if shard is not None:
        examples = tuple(examples[place] for place in at)
        note(f"{suite.name}: shard {shard} has {len(examples)} of {whole} examples")
    part = f", shard {shard}" if shard is not None else ""
    with Store(path) as store, store.lock(f"{model.name}, suite {suite.name}, {_digest(model)}{part}"):
        asked: dict[str, JSON] = {
            "scorer": model.scorer.identity(),
            "engine": model.engine.fingerprint() if model.engine is not None else {},
            "suite": {"version": suite.card.version, "data": data.sha256},
        }
        if changed := store.changed_fields(model.name, suite.name, asked):
            said = ", ".join(f"{key} ({_brief(old)} before, {_brief(new)} now)" for key, (old, new) in changed.items())
            note(f"{model.name} on {suite.name}: differs from the last run in {said}")
        outcome = runner.run(
            examples,
            model.scorer,
            model.engine,
            store,
            title=f"{model.name} on {suite.name}",
            by_step=suite.card.kind == "process",
        )
    metrics = evaluate(outcome.judgements, plan)
    withheld = shards.withheld(outcome.reasons, settings.max_failed)
    if withheld:
        metrics = withhold(metrics, withheld)
    complete = data.complete and settings.limit is None and not outcome.reasons.get(SKIPPED)
    flags = shards.flagged(outcome.judgements)
    for text in flags:
        note(f"{suite.name}: {text}")
    draft = results.Draft(
        complete=complete and not withheld and shard is None,
        model=ModelRecord(
            name=model.name,
            revision=model.revision,
            kind=model.kind,
            licence=str(model.details.get("licence") or ""),
            training_data=_strings(model.details.get("training_data")),
        ),
        suite=SuiteRecord(
            name=suite.name,
            version=suite.card.version,
            data=DataRecord(
                source=data.source,
                revision=data.revision,
                sha256=data.sha256,
                layout=data.layout,
                labels_sha256=data.labels_sha256,
            ),
            examples=len(examples),
            limit=settings.limit,
            seed=settings.seed,
        ),
        scorer=ScorerRecord.model_validate({"name": model.scorer.name, **model.scorer.identity()}),
        engine=engine,
        text=None if model.engine is None else hygiene.report(outcome.texts, model.engine.fingerprint()),
        metrics=metrics,
        counts=Counts(
            requests=outcome.counts.requests,
            cached=outcome.counts.cached,
            truncated=outcome.counts.truncated,
            unparsed=outcome.counts.unparsed,
            refused=outcome.counts.refused,
            errors=outcome.counts.errors,
        ),
        usage=Usage(tokens=outcome.counts.tokens, written=outcome.counts.written, seconds=round(outcome.seconds, 3)),
        environment=results.current_environment(
            device=str(model.engine.describe().get("device", "cpu")) if model.engine else "cpu",
            engine=model.engine.describe() if model.engine else None,
            started=started,
        ),
        metric_options=dict(settings.metric_options or {}),
        withheld=withheld,
        # the engine refuses faulty texts unless it was told to go on
        notes=(*data.notes, *notes, *shards.faults(outcome.texts), *flags, *shards.answered(outcome.counts.served)),
        shard=None
        if shard is None
        else shards.record(
            shard,
            at,
            examples=whole,
            complete=complete,
            notes=(*data.notes, *notes),
            texts=outcome.texts,
            served=outcome.counts.served,
        ),
    )
    return results.write(draft, outcome.judgements, settings.out)


def forecast(model: Model, suite: Suite, settings: Settings) -> Forecast:
    """What `run_suite` would do: examples, requests, tokens, texts over the limit. Loads no weights, writes nothing."""
    _follow_preset(model, suite)
    results.with_options(suite.plan, settings.metric_options or {})  # a misspelt option is told here, as in the run
    _, examples = _examples(model, suite, settings)
    if settings.shard is not None:
        examples = tuple(examples[place] for place in shards.places(settings.shard, examples))
    by_step = suite.card.kind == "process"
    requests, distinct, planned = runner.plan(examples, model.scorer, model.engine, by_step=by_step)
    return Forecast(
        suite=suite.name,
        examples=len(examples),
        candidates=sum(len(e.candidates) for e in examples),
        requests=requests,
        distinct=len(planned.tokens) if planned else 0,
        tokens=sum(planned.tokens) if planned else 0,
        batches=len(planned.batches) if planned else 0,
        too_long=sum(r.truncated for r in planned.settled.values()) if planned else 0,
        cost=str(model.engine.estimate(distinct)) if isinstance(model.engine, Priced) else "",
        writes=str(settings.out / results.path_part(model.name) / results.path_part(suite.name)),
    )


def refuse_without_preset(model: Model, suites: Sequence[Suite]) -> None:
    """Raise `UsageError` when truncation is to be official and a suite's card has no preset for it."""
    if not isinstance(model.engine, FollowsPreset) or model.engine.truncation != "official":
        return
    without = [suite.name for suite in suites if suite.card.truncation is None]
    if without:
        raise UsageError(
            f"-a engine.truncation=official: no official truncation is known for {', '.join(without)}; "
            "choose left or right, with -a engine.max_length=N"
        )


def _follow_preset(model: Model, suite: Suite) -> str:
    """Let the engine cut as the suite's official script does, where that was asked for; says what is in force."""
    refuse_without_preset(model, [suite])
    preset = suite.card.truncation
    if preset is None or not isinstance(model.engine, FollowsPreset) or model.engine.truncation != "official":
        return ""
    return model.engine.follow(max_length=preset.max_length, side=preset.side, source=preset.source)


def load_scorer(
    model: str,
    *,
    scorer: str | None = None,
    engine: str = "transformers",
    args: Mapping[str, Mapping[str, Any]] | None = None,
) -> Model:
    """A model ready for `score`; weights load at the first text."""
    return load_model(model, scorer=scorer, engine=engine, given=args or {})


def score(
    model: Model | str,
    prompt: str | Sequence[Mapping[str, str]],
    responses: Sequence[str],
) -> list[float]:
    """Rewards of responses to one prompt (a string, or messages with role and content); NaN where there is none.

    >>> score("length", "What is 2+2?", ["4", "four"])
    [1.0, 4.0]
    """
    loaded = load_model(model) if isinstance(model, str) else model
    return [s.value for s in score_many(loaded, [(as_messages(prompt), tuple(responses))])[0]]


def score_many(
    model: Model,
    rows: Sequence[tuple[tuple[Message, ...], tuple[str, ...]]],
    store: Store | None = None,
) -> list[list[Score]]:
    """Scores for (prompt, responses) rows, planned and batched over all of them.

    From verdicts, a response's score is the share of its comparisons that it won; from ratings, their mean.
    """
    if not model.needs_texts:
        raise UsageError(f"{model.name} holds recorded outputs; it cannot score new texts")
    if isinstance(model.scorer, Scorer) and model.scorer.arity == "two" and any(len(texts) == 1 for _, texts in rows):
        raise UsageError(f"{model.name} compares two responses, and a prompt has one: give it several `responses`")
    examples = [
        Example(
            id=str(i),
            prompt=prompt,
            candidates=tuple(Candidate(text) for text in responses),
            labels=Labels((0.0,) * len(responses)),
            subset="",
        )
        for i, (prompt, responses) in enumerate(rows)
    ]
    outcome = runner.run(examples, model.scorer, model.engine, store, title=f"{model.name}")
    return [_scores(j) for j in outcome.judgements]


def _scores(j: Judgement) -> list[Score]:
    """A score per response."""
    judged = bool(j.verdicts or j.ratings)
    values = scores_of(j).values if judged else j.scores or (NAN,) * len(j.grades)
    reasons = [missing_reason(j, i) if math.isnan(v) else None for i, v in enumerate(values)] if judged else j.reasons
    return [
        Score(
            value,
            reasons[i] if reasons else None,
            j.n_tokens[i] if j.n_tokens else 0,
            bool(j.truncated and j.truncated[i]),
            j.step_scores[i] if j.step_scores else (),
            j.step_reasons[i] if j.step_reasons else (),
            j.prefix_scores[i] if j.prefix_scores else (),
        )
        for i, value in enumerate(values)
    ]


def bench(name: str, *, seed: int = 0) -> Callable[[Path], dict[str, float]]:
    """What a suite measures of a checkpoint in a folder, without results and store: for models while they train.

    `name` is a suite or one of its variants, with :LIMIT for another number of examples than 200, and =PATH for rows on
    disk. The headline and its interval come back as `<suite>_<metric>`, `..._low` and `..._high`. `UsageError` where so
    few examples leave the headline undefined.
    """
    asked, _, data = name.partition("=")
    suite_name, _, limit = asked.rpartition(":")
    if not limit.isdecimal() or not suite_name:
        suite_name, limit = asked, str(BENCH_EXAMPLES)
    suite = load_suite(suite_name)
    try:
        found = suite.load(Path(data) if data else None, seed).examples
    except UsageError as fault:
        raise UsageError(f"{fault}\n(asked to measure {name}; rows on disk are {asked}=PATH)") from None
    examples = stratified_sample(found, int(limit), seed)

    def measure(folder: Path) -> dict[str, float]:
        model = load_model(str(folder))
        _refuse_without_steps(model, suite)
        by_step = suite.card.kind == "process"
        outcome = runner.run(examples, model.scorer, model.engine, None, title=f"suite {suite.name}", by_step=by_step)
        head = evaluate(outcome.judgements, suite.plan)[0]
        if head.value is None:
            raise UsageError(f"{len(examples)} examples of {suite.name} leave its {head.name} undefined: {head.note}")
        found = {"": head.value, "_low": head.ci[0] if head.ci else None, "_high": head.ci[1] if head.ci else None}
        return {f"{suite.name}_{head.name}{end}": value for end, value in found.items() if value is not None}

    return measure


def as_messages(prompt: str | Sequence[Mapping[str, str]]) -> tuple[Message, ...]:
    """A prompt as messages: a string is one user turn."""
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    return tuple(Message(m["role"], m["content"]) for m in prompt)


def raise_if_failed(result: Result, path: Path) -> None:
    """Raise `CheckFailed` (exit 3) when the aggregates of a result are withheld."""
    if result.withheld:
        kept = path.parent / result.samples.file
        raise CheckFailed(f"{result.withheld}. The aggregates are withheld; every score is kept in {kept}")


def _refuse_bad_rules(suite: Suite, plan: MetricPlan) -> None:
    """Raise `UsageError` for options that no rule of the suite takes, before anything is scored."""
    try:
        evaluate((), plan)
    except UsageError as fault:
        raise UsageError(f"suite {suite.name!r}: {fault}") from None
    except Exception:  # noqa: BLE001, S110 - a metric of a plugin need not bear that there are no rows
        pass


def _refuse_without_steps(model: Model, suite: Suite) -> None:
    """Raise `UsageError` when a suite asks for a score per step and the model gives one per response."""
    by_step = isinstance(model.scorer, ByStep) and model.scorer.by_step
    if model.kind == "judge" and by_step != (suite.card.kind == "process"):
        wanted = "pairwise" if by_step else "critic"
        raise UsageError(
            f"suite {suite.name} is of kind {suite.card.kind}, and {model.name} is asked by the protocol "
            f"{model.details['protocol']}: -a judge.protocol={wanted}. List them: rmeval list judges"
        )
    if suite.card.kind == "process" and model.needs_texts and not by_step:
        raise UsageError(
            f"suite {suite.name} asks for a score per reasoning step, and {model.name} ({model.kind}) gives one per "
            "response. There is no sound conversion from one number to many; replay step scores, or choose a suite of "
            "kind preference: rmeval list suites"
        )


def _examples(model: Model, suite: Suite, settings: Settings) -> tuple[Data, Sequence[Example]]:
    _refuse_without_steps(model, suite)
    data = suite.load(settings.data, settings.seed, skip_bad_rows=settings.skip_bad_rows)
    if model.kind == "judge" and suite.card.kind == "process":
        _refuse_unmeasurable(suite, data.examples)
    if isinstance(model.scorer, Replay | Ensemble):
        model.scorer.check_ids({example.id for example in data.examples})
    if settings.limit is None:
        return data, data.examples
    return data, stratified_sample(data.examples, settings.limit, settings.seed)


def _refuse_unmeasurable(suite: Suite, examples: Sequence[Example]) -> None:
    """Raise `UsageError` where a suite's rule takes no critic's verdict, before anybody is asked for one."""
    if examples:
        critique = replace(unscored(examples[0]), verdicts=(Verdict((0,), "-1"),))
        for section in suite.plan.sections:
            METRICS.get(section.rule.name)([critique], section.rule.options)


def _digest(model: Model) -> str:
    from rmeval.store import fingerprint_digest

    identity = {"scorer": model.scorer.identity(), "engine": model.engine.fingerprint() if model.engine else None}
    return fingerprint_digest(identity)[:12]


def _brief(value: object, most: int = 40) -> str:
    """A value of a setting for a message."""
    said = "none" if value is None else str(value)
    return said if len(said) <= most else f"{said[:12]}..."


def _strings(value: object) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list) else ()
