"""Pools that a language model writes: n completions of each prompt, and what each is worth where the answer is known.

    prompts   a file of rows {prompt, id?, answer?}, or a suite, each of its prompts once
    gold      1 where the final answer is that of the prompt, 0 where it is another or there is none
    answers   completions with the same final answer share a number; one without any has a number of its own

The answer of a suite's prompt is the one that all of its right candidates state and none of its wrong ones does. Where
that leaves prompts without an answer, their rows have no gold. Texts and scores go through the reply store.

What this module does not know: what is asked of a pool, what runs the weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rmeval import runner
from rmeval.errors import UsageError
from rmeval.final_answers import final_answer, same_answer
from rmeval.models import Model
from rmeval.probes.pool import Pool, PoolRow, from_judgements
from rmeval.protocols import Engine
from rmeval.readers.fields import BadRow, cluster_of, conversation
from rmeval.readers.rows import Row, faults_message, read_file
from rmeval.store import Store
from rmeval.suites import load_suite
from rmeval.types import Candidate, Chat, Example, Labels, Message, Reply, Request, Sampling


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, and the answer where it is known."""

    id: str
    cluster: str
    prompt: tuple[Message, ...]
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How completions are drawn."""

    n: int = 16
    """Of each prompt."""
    temperature: float = 0.8
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `UsageError` for values with which all completions of a prompt would be one text, or none."""
        if self.n < 1:
            raise UsageError(f"--n {self.n}: at least 1")
        if self.temperature <= 0:
            raise UsageError(
                f"--temperature {self.temperature:g}: above 0, or all completions of a prompt are one text"
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"--top-p {self.top_p:g}: above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Written:
    """A pool, and what writing it came to."""

    pool: Pool
    failed: Counter[str] = field(default_factory=Counter)
    """Reason -> completions without a text, which are in no row."""
    cut: int = 0
    """Cut off by the token limit."""
    computed: int = 0
    """Texts that were written now."""
    cached: int = 0
    """Texts that were written before."""
    tokens: int = 0
    """Tokens of both."""


def prompts_of(source: str, *, data: Path | None = None, seed: int = 0) -> list[Asked]:
    """The prompts of a file, or of a suite by its name. Raises `UsageError` with up to 20 bad rows."""
    path = Path(source).expanduser()
    if path.is_file():
        return _of_rows(read_file(path, path.name), source)
    if path.suffix in (".json", ".jsonl", ".gz", ".csv", ".parquet"):
        raise UsageError(f"--prompts {source}: no such file")
    found: dict[str, list[Example]] = {}
    for example in load_suite(source).load(data, seed).examples:
        found.setdefault(cluster_of(example.prompt), []).append(example)
    return [Asked(same[0].id, prompt, same[0].prompt, _answer_of(same)) for prompt, same in found.items()]


def write_pool(asked: Sequence[Asked], engine: Engine, store: Store | None, way: Way, *, name: str) -> Written:
    """`way.n` completions of each prompt, in the order of their draws. Raises `UsageError` for none at all."""
    requests = [_requests(one, way) for one in asked]
    replies, made = runner.ask([r for row in requests for r in row], engine, store, title=f"{name}: completions")
    failed: Counter[str] = Counter()
    rows, cut = [], 0
    for one, row in zip(asked, requests, strict=True):
        there = [replies[r] for r in row if _has_text(replies[r], failed)]
        cut += sum(reply.finish == "length" for reply in there)
        if there:
            rows.append(_row(one, there))
    if not rows:
        why = ", ".join(f"{n} {reason}" for reason, n in sorted(failed.items())) or "no prompts"
        raise UsageError(f"{name}: not one completion was written ({why})")
    notes = [f"{failed.total()} completions have no text and are in no row: {dict(failed)}"] if failed else []
    if len(rows) < len(asked):
        notes.append(f"{len(asked) - len(rows)} prompts have no completion at all and are left out")
    pool = Pool(name, tuple(rows), complete=not failed, notes=tuple(notes))
    return Written(pool, failed, cut, made.computed, made.cached, made.written)


def rewarded(pool: Pool, model: Model, store: Store | None, *, aggregate: str) -> Pool:
    """The pool with a model's rewards; `aggregate` turns step scores into one. Raises `UsageError` without texts."""
    for what in ("prompt", "completions"):
        if why := pool.lacks(what):
            raise UsageError(f"{pool.name}: {why}: there is nothing to score")
    if not model.needs_texts:
        raise UsageError(f"{model.name} holds recorded outputs; it cannot score new texts")
    examples = [
        Example(
            id=row.id,
            prompt=row.prompt,
            candidates=tuple(map(Candidate, row.completions)),
            labels=Labels((0.0,) * row.n),
            subset="",
            cluster=row.cluster,
        )
        for row in pool.rows
    ]
    outcome = runner.run(examples, model.scorer, model.engine, store, title=f"{model.name} on {pool.name}")
    scored = from_judgements(pool.name, outcome.judgements, aggregate=aggregate)
    rows = (
        replace(row, rewards=got.rewards, reasons=got.reasons)
        for row, got in zip(pool.rows, scored.rows, strict=True)
    )  # fmt: skip
    return replace(pool, rows=tuple(rows), notes=(*pool.notes, *scored.notes))


# --- prompts ---------------------------------------------------------------------------------------------------------


def _of_rows(rows: Sequence[Row], source: str) -> list[Asked]:
    found: dict[str, Asked] = {}
    faults, ids = [], set()
    for number, row in enumerate(rows, 1):
        try:
            one = _asked(row, number)
        except BadRow as fault:
            faults.append(f"{row.place}: {fault}")
            continue
        if one.id in ids:
            faults.append(f"{row.place}: id {one.id!r} stands in a row above already")
        ids.add(one.id)
        first = found.setdefault(one.cluster, one)
        if None not in (first.answer, one.answer) and not same_answer(str(first.answer), str(one.answer)):
            faults.append(f"{row.place}: the prompt of {first.id!r} again, with another answer")
    if faults:
        raise UsageError(faults_message(f"{source}: {len(faults)} of {len(rows)} rows are no prompts", faults))
    if not found:
        raise UsageError(f"{source}: no rows")
    return list(found.values())


def _asked(row: Row, number: int) -> Asked:
    if row.values.get("prompt") is None:
        raise BadRow("no 'prompt'")
    name, answer = row.values.get("id"), row.values.get("answer")
    prompt = conversation(row.values["prompt"])
    if prompt[-1].role == "assistant":
        raise BadRow("'prompt' ends with a turn of the assistant: nothing is asked of it")
    if answer is not None and (isinstance(answer, bool) or not isinstance(answer, str | int | float)):
        raise BadRow(f"'answer' must be a text or a number, found {answer!r}")
    said = None if answer is None else str(answer).strip()
    # a worked reference, such as GSM8K's, states its answer; any other is one
    stated = (final_answer(said, stated=True) or said) if said else None
    return Asked(str(number if name is None else name), cluster_of(prompt), prompt, stated)


def _answer_of(same: Iterable[Example]) -> str | None:
    """What all right candidates of a prompt state and no wrong one does; None where there is no such answer."""
    right: list[str | None] = []
    wrong: list[str | None] = []
    for example in same:
        for candidate, grade in zip(example.candidates, example.labels.grades, strict=True):
            if candidate.body is None or grade not in (0.0, 1.0):
                return None
            (right if grade == 1.0 else wrong).append(final_answer(candidate.body, stated=True))
    if not right or not wrong or right[0] is None:
        return None
    alike = all(one is not None and same_answer(one, right[0]) for one in right)
    return right[0] if alike and not any(one is not None and same_answer(one, right[0]) for one in wrong) else None


# --- completions -----------------------------------------------------------------------------------------------------


def _requests(one: Asked, way: Way) -> list[Request]:
    return [
        Request(
            (Chat(one.prompt),),
            at="next",
            read="text",
            sampling=Sampling(way.max_tokens, way.temperature, way.top_p, way.seed, vote),
            group=one.cluster,
        )
        for vote in range(way.n)
    ]


def _has_text(reply: Reply, failed: Counter[str]) -> bool:
    if reply.reason in (None, "empty"):  # nothing to say is a completion too
        return True
    failed[str(reply.reason)] += 1
    return False


def _row(one: Asked, replies: Sequence[Reply]) -> PoolRow:
    # what was cut off is right only where it had stated its answer
    finals = [final_answer(reply.text, stated=reply.finish == "length") for reply in replies]
    answers: list[int] = []
    known: list[str | None] = []
    for final in finals:
        at = next((i for i, k in enumerate(known) if final is not None and k is not None and same_answer(k, final)), -1)
        if at < 0:
            at = len(known)
            known.append(final)
        answers.append(at)
    gold = () if one.answer is None else tuple(float(f is not None and same_answer(f, one.answer)) for f in finals)
    texts = tuple(reply.text for reply in replies)
    return PoolRow(
        one.id,
        one.cluster,
        len(texts),
        one.prompt,
        texts,
        gold=gold,
        answers=tuple(answers),
        lengths=tuple(map(len, texts)),
    )
