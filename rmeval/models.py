"""What the word MODEL on the command line means: a scorer, and the engine that runs its weights.

    length, -length, random, constant, ...      a scorer that needs no weights
    replay:FILE                                 recorded outputs
    ensemble:RESULT,RESULT                      scores combined from stored results on one suite
    judge:NAME                                  a language model that is asked for a verdict, by the protocol of a card:
                                                NAME is a folder, a hub id, or with a base URL what its server calls it
    NAME of a card in scorers/                  a known checkpoint and how it is read
    FOLDER, org/name, org/name@revision         a checkpoint; its kind is told by the one card that names this hub id,
                                                else by its config

What this module does not know: suites, metrics, results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmeval import arguments, samples, strict_json
from rmeval.cards import ScorerCard, read_card
from rmeval.conventions import StepsCard, TokenCard
from rmeval.errors import UsageError, near_miss
from rmeval.metrics.convert import scores_of
from rmeval.plugins import ENGINES, JUDGES, SCORER_CARDS, SCORERS
from rmeval.progress import note
from rmeval.protocols import Engine, Recording, Scorer
from rmeval.records import Result, parse
from rmeval.types import JSON

if TYPE_CHECKING:
    from rmeval.engines.checkpoint import Checkpoint


CHECKPOINT_KINDS = ("scalar", "outcome", "process", "value", "implicit", "pairwise")
"""Kinds of scorers that read a checkpoint."""

REMOTE = "http"
"""The engine whose weights a server holds."""


@dataclass(frozen=True, slots=True)
class Model:
    """A scorer ready to be asked, and where it comes from."""

    name: str
    revision: str | None
    """The hub's commit, the digest of a folder's files, the digest of a replay file, or None for a baseline."""
    kind: str
    """One of `CHECKPOINT_KINDS`, `judge`, `replay`, `ensemble`, `baseline`, or what a plugin's scorer states."""
    scorer: Scorer | Recording
    engine: Engine | None = None
    details: dict[str, JSON] = field(default_factory=dict)
    """Whatever else the checkpoint says about itself: architecture, parameters, licence, training data."""

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise UsageError(f"model {self.name!r}: its name holds control or invisible characters; rename it")

    @property
    def needs_texts(self) -> bool:
        """Whether it reads texts, which a replay does not."""
        return not isinstance(self.scorer, Recording)


def load_model(
    name: str,
    *,
    scorer: str | None = None,
    engine: str = "transformers",
    given: Mapping[str, Mapping[str, Any]] = {},
    base_url: str | None = None,
    max_cost: float | None = None,
    by_step: bool = False,
) -> Model:
    """The model behind a name. Raises `UsageError` with the near miss when there is none. Loads no weights.

    `base_url` is about a judge or, with the engine http, a reward model behind a server, and `max_cost` about a judge;
    `by_step` says that a judge which is not told its protocol is to criticise steps.
    """
    if name.startswith("\N{MINUS SIGN}"):
        name = f"-{name[1:]}"
    scorer_args = dict(given.get("scorer", {}))
    engine_args = dict(given.get("engine", {}))
    if not name.strip():
        raise UsageError("the name of the model is empty")
    ENGINES.origin(engine)  # the near miss for a misspelt engine, whether or not the model needs one
    if name.startswith("judge:"):
        if scorer is not None:
            raise UsageError(f"--scorer {scorer}: {name} is read as a judge; how is said by -a judge.protocol=NAME")
        remote = {"base_url": base_url, "max_cost": max_cost} if base_url or engine == "openai" else None
        return _judge(name.removeprefix("judge:"), engine, given, remote, "critic" if by_step else "pairwise")
    if engine == REMOTE and base_url is not None:
        engine_args, base_url = {"base_url": base_url, **engine_args}, None
    if base_url is not None or max_cost is not None or engine == "openai":
        flag = "--base-url" if base_url is not None else "--max-cost" if max_cost is not None else "--engine openai"
        reward = f"; a reward model behind a server is asked with --engine {REMOTE}" if base_url is not None else ""
        raise UsageError(f"{flag}: asks a server for a judge's words: write judge:{name}{reward}")
    if given.get("judge"):
        raise UsageError(f"-a judge.{next(iter(given['judge']))}: {name} is no judge; a judge is named judge:MODEL")
    reads = dict.fromkeys(CHECKPOINT_KINDS, "a checkpoint: give its folder or hub id as MODEL")
    reads |= {"replay": "a file: write replay:FILE", "ensemble": "results: write ensemble:RESULT_A,RESULT_B"}
    if name in reads and not Path(name).is_dir():
        raise UsageError(f"model {name!r}: the scorer {name} reads {reads[name]}")
    weightless = name.startswith(("replay:", "ensemble:")) or (name in SCORERS and scorer is None)
    if weightless and engine_args:
        raise UsageError(f"-a engine.{next(iter(engine_args))}: {name} runs no weights, so there is no engine to set")
    if weightless:
        made = {"replay": _replay, "ensemble": _ensemble}.get(name.partition(":")[0], _without_weights)
        return made(name, scorer_args)
    return _checkpoint(name, scorer, engine, scorer_args, engine_args)


def _checkpoint(
    name: str, scorer: str | None, engine: str, scorer_args: dict[str, Any], engine_args: dict[str, Any]
) -> Model:
    """A card, a folder or a hub id."""
    card = None
    source, revision = name, None
    if name in SCORER_CARDS and not Path(name).is_dir():
        card = read_card(SCORER_CARDS.get(name), ScorerCard)
        local = SCORER_CARDS.get(name).parent / card.model
        source, revision = str(local) if local.is_dir() else card.model, card.revision
    else:
        source, revision = _source(name)
    if card is None and scorer is None and source.count("/") == 1 and not Path(source).is_dir():
        card = _card_of(source)
    if card is not None and card.needs:
        raise UsageError(f"{card.name} ({card.model}): {card.needs}")
    if card is None and not Path(source).expanduser().is_dir() and source.count("/") != 1:
        known = [*SCORERS.names(), *SCORER_CARDS.names()]
        raise UsageError(
            f"unknown model {name!r}: not a folder, not a hub id (org/name), not a scorer. "
            f"{near_miss(name, known)} List the scorers: rmeval list scorers".replace("  ", " ")
        )
    if scorer is not None and scorer not in CHECKPOINT_KINDS:
        SCORERS.origin(scorer)  # the near miss for a misspelt kind
        raise UsageError(f"--scorer {scorer}: a checkpoint is read by one of {', '.join(CHECKPOINT_KINDS)}")
    from rmeval.engines.checkpoint import Checkpoint
    from rmeval.engines.layers import Layers

    layers = Layers(card.head.linear, card.head.backbone, card.head.gated) if card and card.head else None
    checkpoint = Checkpoint(source, revision, layers)
    _refuse_beyond(checkpoint, engine_args)
    if engine != REMOTE:  # whose weights lie elsewhere
        checkpoint.refuse_unless_loadable()
    kind = scorer or (card.kind if card else None) or checkpoint.kind
    _refuse_unfit(checkpoint, kind, card)
    by_card = card is not None and card.name == name
    return _checkpoint_model(
        checkpoint, kind, card, engine, by_card=by_card, scorer_args=scorer_args, engine_args=engine_args
    )


def _refuse_beyond(checkpoint: Checkpoint, engine_args: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a length limit beyond a checkpoint's table of places, at whose end a text would fail."""
    asked = engine_args.get("max_length")
    if isinstance(asked, int) and asked > (most := checkpoint.table_of_places()):
        raise UsageError(f"-a engine.max_length={asked}: {checkpoint.name} knows {most} places, and no others")


def _source(name: str) -> tuple[str, str | None]:
    """A folder, or a hub id and its revision."""
    if "@" not in name or Path(name).expanduser().exists():
        return name, None
    source, _, revision = name.partition("@")
    if Path(source).expanduser().is_dir():
        raise UsageError(f"model {name!r}: {source} is a folder, and a folder has no revisions")
    return source, revision


def _card_of(source: str) -> ScorerCard | None:
    """The card that names this hub id, where exactly one does."""
    found = []
    for name in SCORER_CARDS.names():
        path = SCORER_CARDS.get(name)
        if f'"{source}"' in path.read_text(encoding="utf-8", errors="replace"):
            card = read_card(path, ScorerCard)
            found += [card] if card.model == source else []
    return found[0] if len(found) == 1 else None


def _refuse_unfit(checkpoint: Checkpoint, kind: str, card: ScorerCard | None) -> None:
    """Raise `UsageError` where a checkpoint cannot be read as this kind, with what would help."""
    source, architecture = checkpoint.source, checkpoint.architecture
    reads_words = card is not None and (
        card.token is not None or (card.steps is not None and card.steps.read != "head") or card.pair is not None
    )
    if checkpoint.form == "causal" and kind != "implicit" and not reads_words:
        raise UsageError(
            f"model {source}: {architecture} is a language model without a reward head. Train one: "
            f"rmeval train bt --model {source} --data FILE; or read how likely it finds a response: --scorer implicit"
        )
    if kind == "token classifier":
        raise UsageError(
            f"model {source}: {architecture} scores tokens, and its config does not say what they mean. Say --scorer "
            "outcome, value or process; a process reward model of TRL also needs its step separator, which TRL does "
            'not save: --scorer process -a scorer.separator="\\n"'
        )
    if kind == "unknown":
        raise UsageError(
            f"model {source}: cannot tell what kind of scorer {architecture} is. If it is a sequence "
            "classifier, say --scorer scalar"
        )
    per_token = ("outcome", "process", "value")
    if checkpoint.form == "sequence" and kind in per_token:
        raise UsageError(
            f"model {source}: {architecture} gives one number per text, and {kind} reads one per token or step"
        )
    if checkpoint.form == "token" and kind not in per_token:
        raise UsageError(f"model {source}: {architecture} scores tokens; as {kind} it has nothing to read")
    if (checkpoint.kind == "pairwise") != (kind == "pairwise" and checkpoint.form != "causal"):
        reads = "reads two responses together" if checkpoint.kind == "pairwise" else "reads one response at a time"
        raise UsageError(f"model {source}: {architecture} {reads}; as {kind} it has nothing to read")
    if kind == "implicit" and checkpoint.form != "causal":
        raise UsageError(f"model {source}: {architecture} is no language model, so it has no implicit reward")


def _replay(name: str, scorer_args: dict[str, Any]) -> Model:
    from rmeval.scorers.replay import Replay

    if name == "replay:":
        raise UsageError("model 'replay:' names no file: write replay:FILE")
    recording = arguments.call(Replay, "scorer", scorer_args, path=Path(name.removeprefix("replay:")).expanduser())
    identity = recording.identity()
    return Model(f"replay:{recording.path.name}", str(identity["sha256"]), "replay", recording)


def _judge(
    name: str, engine: str, given: Mapping[str, Mapping[str, Any]], remote: dict[str, Any] | None, protocol: str
) -> Model:
    """A language model that is asked for a verdict: behind a server (`remote`), or a checkpoint of its own."""
    from rmeval.scorers.judge import JudgeCard, judge_scorer
    from rmeval.scorers.judge.follow import TAKEN

    if not name.strip():
        raise UsageError(
            "model 'judge:' names no model: write judge:FOLDER, judge:org/name or judge:NAME --base-url URL"
        )
    if given.get("scorer"):
        key = next(iter(given["scorer"]))
        if key in {"protocol", *TAKEN}:
            raise UsageError(f"-a {key}: a judge takes -a judge.{key}")
        hint = near_miss(key, ("protocol", *TAKEN)) or f"Known: {', '.join(sorted(('protocol', *TAKEN)))}."
        raise UsageError(f"-a scorer.{key}: judge:{name} is asked by a protocol and takes -a judge.*. {hint}")
    judge_args, engine_args = dict(given.get("judge", {})), dict(given.get("engine", {}))
    card = read_card(JUDGES.get(str(judge_args.pop("protocol", protocol))), JudgeCard)
    made = judge_scorer(card, judge_args)
    runs, checkpoint = language_model(name, engine, engine_args, remote, said=f"judge:{name}")
    if checkpoint is None:
        return Model(f"judge:{name}", None, "judge", made, runs, {"protocol": card.name})
    details: dict[str, JSON] = {"architecture": checkpoint.architecture, "source": checkpoint.name}
    return Model(
        f"judge:{checkpoint.name}", checkpoint.identity, "judge", made, runs, {**details, "protocol": card.name}
    )


def language_model(
    name: str, engine: str, engine_args: Mapping[str, Any], remote: Mapping[str, Any] | None, *, said: str
) -> tuple[Engine, Checkpoint | None]:
    """The engine of a model that writes: behind a server (`remote`), or a checkpoint, which is given too.

    `said` is how messages call it. Raises `UsageError` for what is neither, and for a model without words.
    """
    ENGINES.origin(engine)
    if remote is not None:
        runs: Engine = arguments.call(ENGINES.get("openai"), "engine", dict(engine_args), model=name, **remote)
        return runs, None
    from rmeval.engines.checkpoint import Checkpoint

    source, revision = _source(name)
    if not Path(source).expanduser().is_dir() and source.count("/") != 1:
        raise UsageError(
            f"model {said!r}: not a folder and not a hub id (org/name). For a model behind a server say where: "
            "--base-url URL (for OpenAI's own: --engine openai)"
        )
    checkpoint = Checkpoint(source, revision)
    _refuse_beyond(checkpoint, engine_args)
    checkpoint.refuse_unless_loadable()
    if checkpoint.form != "causal":
        raise UsageError(f"model {said}: {checkpoint.architecture} is no language model, so it has no words")
    runs = arguments.call(ENGINES.get(engine), "engine", dict(engine_args), checkpoint=checkpoint)
    return runs, checkpoint


def _without_weights(name: str, scorer_args: dict[str, Any]) -> Model:
    made = arguments.call(SCORERS.get(name), "scorer", scorer_args)
    if not isinstance(made, Scorer | Recording):
        raise UsageError(
            f"scorer {name!r} from {SCORERS.origin(name).where} is not a scorer: it needs name, arity, identity() "
            "and score(view)"
        )
    return Model(name, None, str(made.identity().get("kind", "plugin")), made)


def _ensemble(name: str, scorer_args: dict[str, Any]) -> Model:
    """`ensemble:RESULT_A,RESULT_B`: the scores of stored results on one suite, combined."""
    from rmeval.scorers.ensemble import Ensemble

    members: dict[str, dict[str, tuple[float, ...]]] = {}
    suites: dict[str, str] = {}
    for part in name.removeprefix("ensemble:").split(","):
        path = Path(part.strip()).expanduser()
        if not part.strip() or not path.is_file():
            raise UsageError(f"model {name!r}: {str(path)!r} is no result file; write ensemble:RESULT_A,RESULT_B")
        result = parse(Result, strict_json.read(path), str(path))
        rows = samples.load(samples.beside(result.samples, path), result.samples.rows)
        if result.id in members:
            raise UsageError(f"model {name!r}: {path} is the same result as another member")
        members[result.id] = {row.id: scores_of(row).values for row in rows}
        suites[f"{result.suite.name} version {result.suite.version}, data {result.suite.data.sha256[:12]}"] = str(path)
    if len(suites) > 1:
        said = "; ".join(f"{path} is about {suite}" for suite, path in suites.items())
        raise UsageError(f"model {name!r}: its results are about different suites: {said}")
    made = arguments.call(Ensemble, "scorer", scorer_args, members=members)
    return Model(f"ensemble of {len(members)}", None, "ensemble", made)


def _checkpoint_model(
    checkpoint: Checkpoint,
    kind: str,
    card: ScorerCard | None,
    engine: str,
    *,
    by_card: bool,
    scorer_args: dict[str, Any],
    engine_args: dict[str, Any],
) -> Model:
    name = card.name if by_card and card else checkpoint.name
    if card is not None:
        engine_args = {"max_length": card.max_length, **engine_args}
    make_engine = ENGINES.get(engine)
    runs = arguments.call(make_engine, "engine", engine_args, checkpoint=checkpoint)
    if kind == "implicit":
        reference = scorer_args.pop("reference", card.reference if card else None)
        mode = scorer_args.get("mode", "ratio")
        if mode == "ratio" and not reference:
            _refuse_misspelt("reference", scorer_args)
            raise UsageError(
                f"model {name}: the implicit reward is a log-ratio to a reference model: -a scorer.reference=MODEL; "
                "or one without a reference: -a scorer.mode=avg (or sum, norm)"
            )
        if mode == "ratio" and engine != "transformers":
            raise UsageError(
                f"model {name}: policy and reference are loaded in turn, which --engine {engine} does not do: run it "
                "with transformers, in parts where one machine is too slow (--shard I/N)"
            )
        if mode == "ratio":
            from rmeval.engines.roles import PolicyAndReference

            source, revision = _source(str(reference))
            other = type(checkpoint)(source, revision)
            _refuse_beyond(other, engine_args)
            other.refuse_unless_loadable()
            if other.form != "causal":
                raise UsageError(
                    f"reference {source}: {other.architecture} is no language model, so there is no log-ratio"
                )
            if other.identity == checkpoint.identity:
                note(f"{name}: policy and reference are the same weights, so every log-ratio is 0 and every pair a tie")
            runs = PolicyAndReference(runs, arguments.call(make_engine, "engine", engine_args, checkpoint=other))
    made = arguments.call(SCORERS.get(kind), "scorer", scorer_args, **_conventions(checkpoint, kind, card, scorer_args))
    return Model(name, checkpoint.identity, kind, made, runs, _details(checkpoint, card))


def _refuse_misspelt(wanted: str, given: Mapping[str, Any]) -> None:
    """Where something is lacking, an argument that nearly says it is the better thing to complain of."""
    for key in given:
        if key != wanted and (hint := near_miss(key, [wanted])):
            raise UsageError(f"-a scorer.{key}: no such argument. {hint}")


def _conventions(checkpoint: Checkpoint, kind: str, card: ScorerCard | None, given: dict[str, Any]) -> dict[str, Any]:
    """What a scorer of this kind is told by the card or the checkpoint and the user has not said otherwise."""
    found: dict[str, Any] = {}
    if kind == "scalar":
        found = {"labels": checkpoint.labels, "exclusive": checkpoint.exclusive}
        if checkpoint.form in ("layers", "causal"):
            found = {"labels": ("reward",), "exclusive": False}
        if card is not None:
            found |= {"label": card.label, "negate": card.negate, "append": card.append, "token": card.token}
            found |= {"gated": card.head is not None and card.head.gated}
        if checkpoint.layers is not None and checkpoint.layers.gated:
            found["gated"] = True
        if checkpoint.layers is not None and checkpoint.layers.backbone == "internlm2":
            found["append"] = TokenCard(id=int(checkpoint.config.reward_token_id))
    elif kind == "process":
        found = {"steps": _steps(checkpoint, card, given)}
        if card is not None and card.head is not None and card.head.labels:
            found["labels"] = card.head.labels
        if found["steps"].read == "head" and checkpoint.form == "token":
            found["labels"] = checkpoint.labels
    elif kind == "pairwise" and card is not None:
        found = {"pair": card.pair}
    elif kind == "implicit" and card is not None:
        found = {"beta": card.beta, **({"steps": card.steps} if card.steps else {})}
    elif kind in ("outcome", "value") and checkpoint.trained.get("aggregate"):
        found = {"aggregate": str(checkpoint.trained["aggregate"])}
    return {key: value for key, value in found.items() if key not in given}


def _steps(checkpoint: Checkpoint, card: ScorerCard | None, given: dict[str, Any]) -> StepsCard:
    """How a process reward model is shown its steps: by the card, by `rmeval train`, or as TRL trains them."""
    if card is not None and card.steps is not None:
        return card.steps
    said = checkpoint.trained
    if said.get("kind") == "prm":
        labels = [label.lower() for label in checkpoint.labels]
        neutral = labels.index("neutral") if "neutral" in labels else None
        shared = {
            "right": (labels.index("correct"),),
            "neutral": neutral,
            "aggregate": str(said.get("aggregate", "min")),
        }
        boundary = str(said.get("boundary", "last-token"))
        if boundary.startswith("special:"):
            return StepsCard.model_validate({"token": {"text": boundary.removeprefix("special:")}, **shared})
        separator = str(said.get("step_separator", ""))
        split = "line" if separator == "\n" else "paragraph"
        return StepsCard.model_validate({"step": f"{{step}}{separator}", "split": split, **shared})
    if "separator" not in given:
        _refuse_misspelt("separator", given)
        raise UsageError(
            f"model {checkpoint.source}: a process reward model without a card needs its step separator, which is not "
            'saved in the checkpoint: -a scorer.separator="\\n" is what TRL trains with unless told otherwise'
        )
    return StepsCard(form="pieces", bos=True)


def _details(checkpoint: Checkpoint, card: ScorerCard | None) -> dict[str, JSON]:
    details: dict[str, JSON] = {"architecture": checkpoint.architecture, "source": checkpoint.name}
    if card is not None:
        details |= {"licence": card.licence, "training_data": list(card.training_data)}
    if getattr(checkpoint.config, "auto_map", None):  # which may do more than the class of that name does
        said = f"{checkpoint.name} brings Python code of its own (auto_map), which is not run"
        details["notes"] = [f"{said}: read as {checkpoint.architecture}"]
    if checkpoint.trained:
        details["trained_by_rmeval"] = checkpoint.trained
    return details
