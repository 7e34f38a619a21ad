"""The TOML cards, checked in full: every fault of a card is reported at once, with its key.

A suite card names where the rows lie (layouts), how a row becomes an example (reader and fields) and how credits
become the official number (rule, sections, headline). A scorer card names a checkpoint and how it is read.

What this module does not know: engines, rules, readers; it checks shape and leaves names to their registries.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rmeval import strict_toml
from rmeval.conventions import HeadCard, PairCard, StepsCard, TokenCard
from rmeval.errors import UsageError, near_miss
from rmeval.metrics.plan import Definition, MetricPlan, RuleSpec, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
SuiteName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}(:[a-z0-9][a-z0-9-]{0,47})?$")]
"""A name, and after a colon the variant of the suite."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """A data set on the hub, or a part of one. Its names are columns: `{_hub}`, `{_config}`, `{_split}`."""

    hub: str
    revision: str = "main"
    config: str | None = None
    configs: tuple[str, ...] = ()
    """Several configs, read one after another; instead of `config`."""
    splits: tuple[str, ...] = ("train",)
    """Splits to read, in this order."""
    files: tuple[str, ...] = ()
    columns: dict[str, str] = {}
    """Columns that all rows of this source get."""


class Layout(_Strict):
    """One way in which upstream publishes the rows."""

    name: str
    """In words: `hub`, `official repository`."""
    hub: str | None = None
    """Data set id on the hub; at most one layout has it, or `source` where the suite lies in several data sets."""
    revision: str = "main"
    config: str | None = None
    splits: tuple[str, ...] = ()
    """Splits to read, in this order; the split is available to templates as `{_split}`."""
    source: tuple[Source, ...] = ()
    """The data sets on the hub, where there are several, or several configs."""
    repository: str | None = None
    """The repository that publishes this layout, as `owner/name`."""
    commit: str | None = None
    files: tuple[str, ...] = ()
    """Globs of the files below `--data`, relative; a file given directly is matched by its last parts."""
    alternatives: bool = False
    """Whether each of the files holds the whole suite by itself; the first that fits is read, the notes say which."""
    path: str | None = None
    """Regular expression searched in a file's path; its named groups become columns."""
    extract: dict[str, str] = {}
    """Per column, a regular expression whose named groups become columns too."""
    gather: str | None = None
    """Column that neighbouring rows share when they belong to one example: they become one row of lists."""
    lists: tuple[str, ...] = ()
    """Columns that are lists in a gathered row even where all of its values are equal."""
    fields: dict[str, str] = {}
    """Fields that differ from the card's own in this layout; "" takes a field of the card away."""
    values: dict[str, dict[str, str]] = {}
    """Per column, values to replace: official spelling on the left, ours on the right."""
    contents_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Digest of all that the examples hold when they are read by this layout, in any order."""

    @model_validator(mode="after")
    def _patterns_are_sound(self) -> Layout:
        for pattern in (self.path, *self.extract.values()):
            try:
                with warnings.catch_warnings(action="ignore"):  # of what a pattern may mean in years to come
                    re.compile(pattern or "")
            except (re.error, OverflowError, RecursionError) as fault:
                raise ValueError(f"{str(pattern)[:60]!r} is no regular expression: {fault}") from None
        if not all(PurePath(glob).parts for glob in self.files):
            raise ValueError("an empty glob in `files`")
        return self

    @property
    def sources(self) -> tuple[Source, ...]:
        """What to read from the hub, one config each; () for a layout that is not there."""
        given = self.source
        if self.hub is not None:
            one = {"hub": self.hub, "revision": self.revision, "config": self.config, "files": self.files}
            given = (Source.model_validate({**one, **({"splits": self.splits} if self.splits else {})}),)
        return tuple(
            one.model_copy(update={"config": config, "configs": ()})
            for one in given
            for config in (one.configs or (one.config,))
        )


class RuleCard(_Strict):
    """A rule and its options; unknown options are refused by the rule itself."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    def spec(self) -> RuleSpec:
        """The plain value that metrics work with."""
        return RuleSpec(self.name, dict(self.model_extra or {}))


class SectionCard(_Strict):
    """A part of the suite with a number of its own."""

    name: str
    subsets: tuple[str, ...]
    weights: dict[str, float] | None = None
    rule: RuleCard | None = None
    optional: bool = False
    """Whether it stays out of the headline, and the suite is whole without its subsets."""


class DefinitionCard(_Strict):
    """Another definition of the headline in use somewhere, reported beside the official one."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9 .,/-]{0,63}$")
    sections: dict[str, float]
    """Sections that it averages, with their weights."""
    weights: dict[str, dict[str, float]] = {}
    """Section -> weight per subset, where they differ from the section's own."""
    note: str = ""
    """Who uses it."""


class EachCard(_Strict):
    """Repeats the sections and the expected counts: `{<name>}` in them stands for every value in turn."""

    name: str = Field(pattern=r"^[a-z_]+$")
    values: tuple[str, ...]


class HeadlineCard(_Strict):
    """The one number of the suite."""

    name: str = "accuracy"
    combine: Literal["rows", "sections"] = "rows"
    note: str = ""
    """What a reader must know about the official number, in one sentence."""


class Published(_Strict):
    """A figure that somebody published, with its source; shown, never ranked."""

    model: str
    value: float
    metric: str = ""
    source: str


class TruncationCard(_Strict):
    """How the official script cuts texts that are too long, for `-a engine.truncation=official`."""

    max_length: int = Field(ge=8)
    side: Literal["left", "right", "tokenizer"]
    """Which end is lost; `tokenizer` where the script leaves it to the checkpoint's tokenizer."""
    source: str
    """The script, with its commit."""


class SuiteCard(_Strict):
    """`suites/<name>/card.toml`."""

    name: SuiteName
    version: int = Field(ge=1)
    title: str
    summary: str = Field(max_length=200)
    kind: Literal["preference", "process"] = "preference"
    """What a scorer must be able to say: a number per candidate, or one per step."""
    embedded: bool = False
    """Generated by our own code, so that it needs no data and runs by default."""
    homepage: str = ""
    paper: str = ""
    licence: str
    citation: str = ""
    languages: tuple[str, ...] = ("en",)

    reader: str
    """A name in the reader registry: `pairs`, `labelled_pairs`, `best_of_k`, `style_matrix`, `marked_list`, ..."""
    options: dict[str, Any] = {}
    """Options of the reader."""
    fields: dict[str, str] = {}
    """Role -> column (dots reach into objects) or template with braces; the reader documents its roles."""
    slices: dict[str, str] = {}
    """Name -> field: overlapping groups with a number of their own, `language = "lang"` or `code = "is_code"`."""
    layouts: tuple[Layout, ...] = Field(default=(), alias="layout")

    rule: RuleCard
    headline: HeadlineCard = HeadlineCard()
    each: EachCard | None = None
    sections: tuple[SectionCard, ...] = Field(default=(), alias="section")
    definitions: tuple[DefinitionCard, ...] = Field(default=(), alias="definition")
    also: tuple[RuleCard, ...] = ()
    expected: dict[str, int] = {}
    """Subset -> number of examples in the full suite; 0 where a subset must be there and its size is not published."""
    labels_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    published: tuple[Published, ...] = ()
    truncation: TruncationCard | None = None
    """None where no official script is known to cut, or its way is not verified."""
    variants: dict[str, dict[str, Any]] = Field(default={}, alias="variant")
    """Named variants of the suite, `<suite>:<variant>`: the keys of this card that differ, tables merged."""

    @model_validator(mode="before")
    @classmethod
    def _repeat(cls, raw: Any) -> Any:
        """Sections and counts written out for each value."""
        each = raw.get("each") if isinstance(raw, dict) else None
        if not isinstance(each, dict) or not isinstance(each.get("values"), list):
            return raw
        slot = f"{{{each.get('name')}}}"
        sections = raw.get("section") if isinstance(raw.get("section"), list) else []
        expected = raw.get("expected") if isinstance(raw.get("expected"), dict) else {}
        return {
            **raw,
            "section": [_filled(section, slot, str(value)) for value in each["values"] for section in sections],
            "expected": {key.replace(slot, str(v)): count for v in each["values"] for key, count in expected.items()},
        }

    @model_validator(mode="after")
    def _definitions_are_sound(self) -> SuiteCard:
        sections = {section.name: section for section in self.sections}
        for one in self.definitions:
            for name in (*one.sections, *one.weights):
                if name not in sections:
                    hint = near_miss(name, sections)
                    raise ValueError(f"definition {one.name!r}: there is no section {name!r}. {hint}".rstrip())
            for name, weights in one.weights.items():
                if set(weights) != set(sections[name].subsets):
                    raise ValueError(f"definition {one.name!r}: weights of {name!r} must name exactly its subsets")
        return self

    @model_validator(mode="after")
    def _sections_are_sound(self) -> SuiteCard:
        if self.headline.combine == "rows" and any(section.optional for section in self.sections):
            raise ValueError('an optional section needs headline.combine = "sections": pooled rows know no sections')
        if self.headline.combine == "sections" and not self.sections:
            raise ValueError('headline.combine = "sections" needs at least one [[section]]')
        for section in self.sections:
            if section.weights is not None and set(section.weights) != set(section.subsets):
                raise ValueError(f"section {section.name!r}: weights must name exactly its subsets")
            for subset in section.subsets:
                if self.expected and not section.optional and subset not in self.expected:
                    raise ValueError(f"section {section.name!r}: subset {subset!r} is not in [expected]")
        return self

    @property
    def optional_subsets(self) -> frozenset[str]:
        """Subsets that the suite may hold and is whole without."""
        return frozenset(subset for section in self.sections if section.optional for subset in section.subsets)

    def variant(self, name: str) -> SuiteCard:
        """The card of a named variant; `UsageError` with the near miss for an unknown one."""
        if name not in self.variants:
            hint = near_miss(name, self.variants) or f"It has {', '.join(self.variants) or 'none'}."
            raise UsageError(f"suite {self.name!r} has no variant {name!r}. {hint}")
        own: Any = {
            "variants": True,
            "labels_sha256": True,
            "published": True,
            "layouts": {"__all__": {"contents_sha256"}},
        }
        raw = self.model_dump(by_alias=True, exclude_unset=True, exclude=own)
        raw.pop("each", None)  # written out already
        try:
            return SuiteCard.model_validate({**_merged(raw, self.variants[name]), "name": f"{self.name}:{name}"})
        except ValidationError as fault:
            lines = [f"suite {self.name!r}, variant {name!r}: {fault.error_count()} faults"]
            lines += [f"  {_describe(error, SuiteCard)}" for error in fault.errors()]
            raise UsageError("\n".join(lines)) from None

    def plan(self) -> MetricPlan:
        """The aggregation tree as metrics take it."""
        whole = Section(self.headline.name, (), self.rule.spec())
        sections = tuple(
            Section(s.name, s.subsets, (s.rule or self.rule).spec(), s.weights, s.optional) for s in self.sections
        )
        return MetricPlan(
            headline=self.headline.name,
            combine=self.headline.combine,
            sections=sections if self.headline.combine == "sections" else (whole, *sections),
            expected=self.expected,
            also=tuple(r.spec() for r in self.also),
            definitions=(
                *(Definition(d.name, d.sections, d.weights, d.note) for d in self.definitions),
                *(self._means_of_each() if self.headline.combine == "sections" else ()),
            ),
        )

    def _means_of_each(self) -> Iterator[Definition]:
        """Per value that the sections repeat for, the mean of its sections."""
        if self.each is not None:
            per_value = len(self.sections) // max(1, len(self.each.values))
            for index, value in enumerate(self.each.values):
                mine = self.sections[index * per_value : (index + 1) * per_value]
                note = f"unweighted mean of the sections of this {self.each.name}"
                yield Definition(value, {s.name: 1.0 for s in mine}, {}, note, is_part=True)


class ScorerCard(_Strict):
    """`scorers/<name>.toml`: a known checkpoint and how it is read."""

    name: Name
    model: str
    """Hub id, or a folder relative to the card."""
    revision: str | None = None
    kind: Literal["scalar", "outcome", "process", "value", "implicit", "pairwise"] = "scalar"
    needs: str = ""
    """Why rmeval cannot run it as it is, and what would help: a server, a conversion. Shown instead of running it."""
    label: str | int | None = None
    """Which label of a classifier with several is the reward."""
    negate: bool = False
    """True for cost models, where lower is better."""
    append: TokenCard | None = None
    """scalar: a token put at the very end, and read."""
    token: TokenCard | None = None
    """scalar: the reward is the logit of this token as the next one of a language model."""
    head: HeadCard | None = None
    """Where the head lies, for classes that transformers lacks and rmeval does not know by name."""
    steps: StepsCard | None = None
    """process and implicit: how steps are shown and read."""
    pair: PairCard | None = None
    """pairwise: how the two candidates are shown and read."""
    reference: str | None = None
    """implicit: the reference model."""
    beta: float = Field(default=1.0, gt=0)
    """implicit: what log-ratios are multiplied by."""
    max_length: int | None = Field(default=None, ge=8)
    licence: str = ""
    training_data: tuple[str, ...] = ()
    """What it was trained on, for the contamination mark."""
    notes: str = ""


Card = TypeVar("Card", bound=BaseModel)


def read_card(path: Path, model: type[Card]) -> Card:
    """A card from a TOML file.

    Raises `UsageError` with all faults at once: file, key, what is wrong, and the near miss of an unknown key.
    """
    raw = strict_toml.read(path)
    try:
        return model.model_validate(raw)
    except ValidationError as fault:
        faults = fault.errors()
        lines = [f"{path}: {len(faults)} fault{'s' if len(faults) > 1 else ''} in this card"]
        lines += [f"  {_describe(error, model)}" for error in faults]
        raise UsageError("\n".join(lines)) from None


def _filled(value: Any, slot: str, text: str) -> Any:
    """A TOML value with every occurrence of a slot replaced, in keys too."""
    if isinstance(value, str):
        return value.replace(slot, text)
    if isinstance(value, list):
        return [_filled(item, slot, text) for item in value]
    if isinstance(value, dict):
        return {_filled(key, slot, text): _filled(item, slot, text) for key, item in value.items()}
    return value


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables merged key by key, `expected` and everything else replaced.

    >>> _merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"c": 3}, "d": [2]})
    {'a': {'b': 1, 'c': 3}, 'd': [2]}
    """
    both = {
        key: _merged(base[key], value)
        for key, value in over.items()
        if key != "expected" and isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **over, **both}


def _describe(error: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "(card)"
    if error["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in _model_at(model, error["loc"][:-1]).model_fields.items()]
        return f"{where}: unknown key. {near_miss(str(error['loc'][-1]), known)}".rstrip()
    if error["type"] == "missing":
        return f"{where}: required key is missing"
    shown = repr(error["input"])
    return f"{where}: {error['msg']}" + (f" (got {shown})" if len(shown) < 60 else "")


def _model_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel]:
    """The model that a fault's location lies in, so that the near miss comes from the right set of keys."""
    inner: dict[str, type[BaseModel]] = {
        "layout": Layout,
        "source": Source,
        "section": SectionCard,
        "definition": DefinitionCard,
        "each": EachCard,
        "headline": HeadlineCard,
        "published": Published,
        "truncation": TruncationCard,
    }
    for part in loc:
        if isinstance(part, str) and part in inner:
            model = inner[part]
    return model
