"""The shape of the result file, field by field: strict pydantic records, the source of `rmeval schema result`.

What this module does not know: where files lie, how a number is computed.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from rmeval.errors import UsageError, near_miss

SCHEMA = 1
"""The number of this shape. It grows only by additions; anything else is a new number and a migration."""


class Record(BaseModel):
    """Base of everything that is read from a file: unknown keys, wrong types and non-finite numbers are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Parsed = TypeVar("Parsed", bound=Record)


def _printable(name: str) -> str:
    if any(unicodedata.category(character).startswith("C") for character in name):
        raise ValueError("holds control, invisible or direction-changing characters")
    return name


Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Interval = tuple[float, float]


class ModelRecord(Record):
    """What was evaluated."""

    name: Name
    """Hub id, folder name, baseline or `replay:FILE`."""
    revision: str | None = None
    """The commit that was resolved; None for what has none."""
    kind: str
    """How it answers: `scalar`, `baseline`, `replay`, ..."""
    licence: str = ""
    training_data: tuple[str, ...] = ()
    """What it was trained on, where a card or the checkpoint says so."""


class DataRecord(Record):
    """The rows that were read."""

    source: str
    """`hub:<id>@<revision>`, `file:<name>` or `generated:seed=<n>`."""
    revision: str | None = None
    sha256: Digest
    """Over the canonical content of all examples."""
    layout: str = ""
    """Which of the card's layouts fitted."""
    labels_sha256: Digest | None = None
    """Over (id, subset, cluster, grades) of all examples."""


class SuiteRecord(Record):
    """On what it was evaluated."""

    name: Name
    version: int = Field(ge=1)
    data: DataRecord
    examples: Count
    """Examples evaluated."""
    limit: int | float | None = None
    """The `--limit` in force; None for the whole suite."""
    seed: int = 0
    """What draws a limited sample or a generated suite."""


class _Open(Record):
    """A record whose further keys belong to a plugin."""

    model_config = ConfigDict(extra="allow")

    name: Name


class ScorerRecord(_Open):
    """How replies were asked for and read: the scorer's own `identity()` beside its name."""


class EngineRecord(_Open):
    """What ran the weights: the engine's own `fingerprint()` beside its name."""


class Headline(Record):
    """The one number of the suite."""

    name: str
    value: float | None
    """None where it is undefined or withheld; the first metric's note says why."""
    ci: Interval | None


class MetricRecord(Record):
    """One number, see `rmeval.types.Metric`."""

    name: str = Field(min_length=1)
    subset: str | None
    value: float | None
    ci: Interval | None
    """95 % interval, clustered by prompt."""
    n: Count
    """Examples that entered the value."""
    n_missing: Count
    """Examples that should have entered it and have no score."""
    higher_is_better: bool = True
    note: str = ""
    """The rule in force, or why the value is null."""
    unit: Literal["fraction", "number"] = "fraction"
    """`fraction` may be printed as per cent, `number` stands for itself."""

    @model_validator(mode="after")
    def _interval_is_ordered(self) -> MetricRecord:
        if self.ci is not None and self.ci[0] > self.ci[1]:
            raise ValueError(f"interval {list(self.ci)} is upside down")
        return self


class Counts(Record):
    """What happened to the requests."""

    requests: Count = 0
    """Questions that the run needed answered."""
    cached: Count = 0
    """Of these, answered from the store."""
    truncated: Count = 0
    unparsed: Count = 0
    refused: Count = 0
    errors: Count = 0


Share = Annotated[float, Field(ge=0, le=1)]


class Spread(Record):
    """A number per text, over all texts."""

    min: Count
    median: float = Field(ge=0)
    max: Count


class BosShares(Record):
    """How the texts start; the three add up to 1."""

    none: Share
    """No BOS token at the start."""
    one: Share
    double: Share
    """Two or more in a row."""


class ScoredToken(Record):
    """The token at which most texts are read."""

    token: str
    """As text: `<|im_end|>`, or a line break where the template writes one after it."""
    share: Share
    """Of the texts that are read."""
    past_closing: Count | None
    """Its place after the token that closes the response: 0 is that token itself; None where nothing closes it."""


class TextRecord(Record):
    """What the model was given to read, over the distinct texts of a run, as tokens before any truncation."""

    texts: Count
    """Distinct texts; those that the chat template refused are left out."""
    template: Literal["checkpoint", "ours", "none"]
    """Whose chat template wrote them: the checkpoint's, the plain one of rmeval, or none (literal text)."""
    template_sha256: Digest | None
    """Over the template's text."""
    tokens: Spread
    bos: BosShares
    eos: Spread
    """EOS tokens per text, anywhere in it; a template may well close its turns with another token."""
    closed: Share | None
    """Texts whose response is followed by an end-of-turn, EOS or separator token; None where no text has a response."""
    without_response: Share | None
    """Texts in which the template does not show the response; None where no text has one."""
    without_prompt: Share | None
    """Texts that lack the prompt's last user turn; None where no prompt has one."""
    over: Share
    """Texts over the limit: cut where a side is named, without a score where none is."""
    side: Literal["left", "right", "middle", "none"]
    """Where texts over the limit are cut: none means that they have no score."""
    limit: Count
    """Tokens that may be read."""
    preset: str = ""
    """The official script whose truncation is in force; empty for a limit of the model's or user's own."""
    scored: ScoredToken | None
    """None where the model class pools by a rule of its own, or nothing is read."""


class Usage(Record):
    """What the run cost."""

    tokens: Count = 0
    """Tokens read, each distinct text once."""
    written: Count = 0
    """Tokens that a judge wrote."""
    seconds: float = Field(default=0.0, ge=0)


class Environment(Record):
    """Where and with what it ran (see `rmeval.environment.describe`); never part of what "equal" means."""

    rmeval: str
    git: str | None = None
    """Commit, where rmeval ran from a checkout."""
    dirty: bool | None = None
    """Whether tracked files differed from that commit."""
    packages: dict[str, str] = Field(default_factory=dict)
    python: str = ""
    os: str = ""
    cpu: str = ""
    """The processor's name, where the system says it."""
    cpus: Count = 0
    device: str = "cpu"
    driver: str | None = None
    """The version of NVIDIA's driver, where there is one."""
    threads: int | None = None
    engine: dict[str, Any] = Field(default_factory=dict)
    """What the engine records but does not decide values: batch budget, versions."""
    command: tuple[str, ...] = ()
    """The command line, secrets removed."""
    started: str | None = None
    """When the run began, in UTC; it ended when the result was made."""


class SamplesRecord(Record):
    """The samples file beside this one."""

    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}-samples\.jsonl\.gz$")
    sha256: Digest
    rows: Count


class TextFactsRecord(Record):
    """Texts that look alike as tokens, see `rmeval.types.TextFacts`."""

    n: int = Field(ge=1)
    """How many there are."""
    tokens: Count
    bos: Count
    eos: Count
    template: Literal["checkpoint", "ours", "none"]
    shows_response: bool | None
    shows_prompt: bool | None
    closed: bool | None
    past_closing: Count | None
    scored: str | None
    over: bool


class ShardRecord(Record):
    """What a part of a run says so that the parts can become one (`rmeval merge`)."""

    index: int = Field(ge=1)
    """Which part it is, from 1."""
    of: int = Field(ge=1)
    """How many parts there are."""
    examples: Count
    """Examples of the whole run."""
    places: str = Field(pattern=r"^(\d{1,9}(-\d{1,9})?( \d{1,9}(-\d{1,9})?)*)?$")
    """Where this part's examples stand among them, from 0: `0 3-5 9`."""
    complete: bool
    """Whether the run is complete as far as this part knows."""
    notes: tuple[str, ...] = ()
    """Notes about data and scorer."""
    texts: tuple[TextFactsRecord, ...] = ()
    """What the model read, text by text as far as texts differ."""
    served: dict[str, Count] = Field(default_factory=dict)
    """Model that a server says has answered -> its replies."""


class Result(Record):
    """A result file."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    id: Digest
    """sha256 of what was asked: model, suite, scorer, engine and metric options. Equal questions have equal ids."""
    created: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")
    complete: bool
    """Whether the whole suite was scored, with failures within the limit. Only complete results are ranked."""
    model: ModelRecord
    suite: SuiteRecord
    scorer: ScorerRecord
    shard: ShardRecord | None = None
    """Which part of a run this is; None for a whole one."""
    engine: EngineRecord | None
    """None where nothing ran weights."""
    text: TextRecord | None = None
    """What the model read as tokens; None for baselines, recordings and engines that see no tokens."""
    headline: Headline
    metrics: tuple[MetricRecord, ...] = Field(min_length=1)
    """The headline first."""
    counts: Counts
    usage: Usage
    environment: Environment
    samples: SamplesRecord
    metric_options: dict[str, Any] = Field(default_factory=dict)
    """Rule options that differ from the suite's card; empty means the official definition."""
    rescored_from: Digest | None = None
    """The id of the result whose samples were scored again under other options."""
    withheld: str = ""
    """Why the aggregates are withheld; empty where they are not."""
    notes: tuple[str, ...] = ()
    """What a reader must know about data, scorer or completeness."""

    @model_validator(mode="after")
    def _headline_is_first(self) -> Result:
        first = self.metrics[0]
        if (first.name, first.value, first.ci) != (self.headline.name, self.headline.value, self.headline.ci):
            raise ValueError(f"headline {self.headline.name!r} differs from the first metric {first.name!r}")
        return self


def parse(model: type[Parsed], value: Any, where: str) -> Parsed:
    """A record from parsed JSON; `UsageError` with every fault at once, opened by `where`."""
    try:
        return model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        faults = error.errors()
        said = [say(fault, model) for fault in faults[:20]]
        if len(faults) > len(said):
            said.append(f"and {len(faults) - len(said)} more")
        raise UsageError(f"{where}: {'; '.join(said)}") from None


def say(fault: Any, model: type[BaseModel]) -> str:
    """One pydantic fault as a readable clause: the key, what is wrong, and the near miss of an unknown key."""
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key. {near_miss(str(fault['loc'][-1]), _keys(model))}".rstrip()
    if fault["type"] == "missing":
        return f"{where}: required key is missing"
    said = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def _keys(model: type[BaseModel]) -> set[str]:
    """Every key of a record and of the records inside it."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for part in inner:
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= _keys(part)
    return found
