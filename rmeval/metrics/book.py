"""The aggregation tree of a plan over some judgements: credits once per rule, sections, headline, definitions.

What this module does not know: intervals, which numbers are reported, files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rmeval.errors import UsageError
from rmeval.metrics.columns import Column
from rmeval.metrics.credit import Credit, Credits, Figures, Formula, Linear, Rule
from rmeval.metrics.plan import Definition, MetricPlan, Section
from rmeval.metrics.table import Table
from rmeval.metrics.tree import Aggregate, Branch, Leaf
from rmeval.plugins import METRICS
from rmeval.types import Judgement

_NAMED = 5
"""Missing subsets that a note names before it counts the rest."""
_LISTED = 12
"""Sections that a note lists before it counts them."""


class Book:
    """Judgements under a plan: credits computed once per rule, aggregates built from them."""

    def __init__(self, judgements: Sequence[Judgement], plan: MetricPlan, rules: dict[str, Rule] | None = None) -> None:
        self.judgements = judgements
        self.plan = plan
        # looking a name up reads the entry points of all packages: once is enough
        self.rules = {} if rules is None else rules
        # a suite of many sections (a language each) must not look through all rows for each of them
        self._places: dict[str, list[int]] = {}
        if isinstance(judgements, Table):
            self.subsets = judgements.subsets[1]
        else:
            for place, j in enumerate(judgements):
                self._places.setdefault(j.subset, []).append(place)
            self.subsets = tuple(self._places)
        self._earned: dict[str, Credits | Figures] = {}
        self._leaves: dict[tuple[str, tuple[str, ...], str], Leaf] = {}
        self._in_force = next((d for d in plan.definitions if d.name == plan.definition), None)
        for section in self.sections:
            if section.name in self.subsets and section.subsets != (section.name,):
                raise UsageError(
                    f"section {section.name!r} shares its name with a subset but not its rows: rename the section"
                )

    @property
    def sections(self) -> tuple[Section, ...]:
        """The sections that have a number beside the headline: all but optional ones without rows.

        Weighted as the definition in force has them, or the headline would not follow from them.
        """
        listed = self.plan.sections if self.plan.combine == "sections" else self.plan.sections[1:]
        there = (s for s in listed if not s.optional or set(s.subsets) & set(self.subsets))
        weights = self._in_force.weights if self._in_force else {}
        return tuple(replace(s, weights=weights.get(s.name, s.weights)) for s in there)

    @property
    def in_headline(self) -> tuple[Section, ...]:
        """The sections that make the headline."""
        if self._in_force is not None:
            return tuple(self._section_of(self._in_force, name) for name in self._in_force.sections)
        if self.plan.combine == "rows":
            return self.plan.sections[:1]
        return tuple(s for s in self.plan.sections if not s.optional)

    def earned(self, section: Section) -> Credits | Figures:
        """What the section's rule says of its rows."""
        key = json.dumps([section.rule.name, dict(section.rule.options), section.subsets], sort_keys=True)
        if key not in self._earned:
            name = section.rule.name
            if name not in self.rules:
                self.rules[name] = METRICS.get(name)
            rows = self._rows(section.subsets) if section.subsets else self.judgements
            earned = self.rules[name](rows, section.rule.options)
            if isinstance(earned, Credits):
                _check(earned, name)
            self._earned[key] = earned
        return self._earned[key]

    def _rows(self, subsets: Sequence[str]) -> Sequence[Judgement]:
        """The rows of some subsets, in the order of all."""
        if isinstance(self.judgements, Table):
            codes, names = self.judgements.subsets
            return self.judgements.take(np.flatnonzero(np.array([name in subsets for name in names])[codes]))
        places = sorted(p for subset in set(subsets) for p in self._places.get(subset, ()))
        return [self.judgements[place] for place in places]

    def credits(self, section: Section) -> Credits:
        """The credits of the section's rows; a rule that gives figures instead raises `UsageError`."""
        earned = self.earned(section)
        if isinstance(earned, Figures):
            raise UsageError(
                f"metric {section.rule.name!r} gives figures, which stand beside a headline and are no part of one: "
                "name it under [[also]]"
            )
        return earned

    def section(self, section: Section, component: str | None = None) -> Aggregate:
        """A section's number, or one component of it."""
        needed = section.subsets or tuple(self.plan.expected)
        if lacking := [name for name in needed if name not in self.subsets]:
            more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
            return Aggregate((), f"no examples of {', '.join(lacking[:_NAMED])}{more}")
        if not self.judgements:
            return Aggregate((), "no examples")
        if section.weights is None:
            return Aggregate((self._branch(section, section.subsets, component),))
        whole = sum(section.weights[name] for name in section.subsets)
        branches = [
            replace(self._branch(section, (name,), component), weight=section.weights[name] / whole)
            for name in section.subsets
        ]
        return Aggregate(tuple(branches))

    def headline(self, component: str | None = None) -> Aggregate:
        """The suite's number, or one component of it: the mean of its sections, unweighted in the official one."""
        weights = tuple(self._in_force.sections.values()) if self._in_force else (1.0,) * len(self.in_headline)
        return self._mean(self.in_headline, weights, component)

    def definition(self, definition: Definition) -> Aggregate:
        """The number of another definition of the headline."""
        sections = tuple(self._section_of(definition, name) for name in definition.sections)
        return self._mean(sections, tuple(definition.sections.values()))

    def _mean(self, sections: Sequence[Section], weights: Sequence[float], component: str | None = None) -> Aggregate:
        parts = [self.section(section, component) for section in sections]
        if len(parts) == 1:
            return parts[0]
        undefined = [f"{s.name}: {p.undefined}" for s, p in zip(sections, parts, strict=True) if p.undefined]
        if undefined:
            more = f"; and {len(undefined) - _NAMED} more" if len(undefined) > _NAMED else ""
            return Aggregate((), "; ".join(undefined[:_NAMED]) + more)
        whole = sum(weights)
        return Aggregate(
            tuple(branch for part, w in zip(parts, weights, strict=True) for branch in part.scaled(w / whole))
        )

    def _section_of(self, definition: Definition, name: str) -> Section:
        """A section with the weights that a definition gives its subsets; a part's are those of the one in force."""
        section = next(s for s in self.plan.sections if s.name == name)
        ours = self._in_force.weights if definition.is_part and self._in_force else {}
        return replace(section, weights=definition.weights.get(name, ours.get(name, section.weights)))

    def subset(self, name: str, component: str | None = None) -> Aggregate | None:
        """A subset's number under the rule of the first section that holds it; None if none does."""
        section = self.holder(name)
        return None if section is None else Aggregate((self._branch(section, (name,), component),))

    def holder(self, subset: str) -> Section | None:
        """The first section that holds a subset."""
        return next((s for s in self.plan.sections if not s.subsets or subset in s.subsets), None)

    def part(self, name: str | None) -> Aggregate:
        """The headline, or the section or subset of that name."""
        if name is None:
            return self.headline()
        section = next((s for s in self.sections if s.name == name), None)
        found = self.section(section) if section else self.subset(name) if name in self.subsets else None
        return found or Aggregate((), f"there is no section or subset {name!r}")

    def note(self) -> str:
        """The definition and the rules in force in the headline."""
        said = (self.credits(s).note.split("; ") for s in self.in_headline)
        rules = dict.fromkeys(part for note in said for part in note)  # sections that say the same say it once
        names = [s.name for s in self.in_headline]
        which: list[str] = []
        if self._in_force is not None:
            mean = ", ".join(f"{name} x {weight:g}" for name, weight in self._in_force.sections.items())
            which = [f"definition {self._in_force.name!r}: {self._in_force.note or 'mean of'} ({mean})"]
        elif len(names) > 1:
            shown = ", ".join(names) if len(names) <= _LISTED else f"{len(names)} sections"
            which = [f"unweighted mean of {shown}"]
        stray = [name for name in self.subsets if self.holder(name) is None]
        outside = [f"rows of {', '.join(stray)} belong to no section and do not count"] if stray else []
        return "; ".join([*which, *rules, *outside])

    def _branch(self, section: Section, subsets: tuple[str, ...], component: str | None) -> Branch:
        earned = self.credits(section)
        formula: Formula = earned.formula if component is None else Linear({component: 1.0})
        return Branch(1.0, formula, {name: self._leaf(earned, subsets, name) for name in formula.components})

    def _leaf(self, earned: Credits, subsets: tuple[str, ...], component: str) -> Leaf:
        key = (str(id(earned)), subsets, component)
        if key not in self._leaves:
            rows = _chosen(earned.rows, component, subsets)
            name = f"{component} of {', '.join(subsets)}" if subsets else component
            self._leaves[key] = Leaf(name, rows, earned.ranges.get(component, (0.0, 1.0)))
        return self._leaves[key]


def _chosen(rows: Sequence[Credit], component: str, subsets: tuple[str, ...]) -> Sequence[Credit]:
    """The credits of one component in some subsets, or in all where none is named."""
    if isinstance(rows, Column):
        return () if rows.component != component else rows.of(subsets) if subsets else rows
    return tuple(r for r in rows if r.component == component and (not subsets or r.subset in subsets))


def _check(earned: Credits, rule: str) -> None:
    """Refuse credits that no interval could be true of; rules may come from plugins."""
    if isinstance(earned.rows, Column) and all(earned.rows.table.clusters.names[:1]):
        return  # made here, within the range; names are sorted
    for row in earned.rows:
        low, high = earned.ranges.get(row.component, (0.0, 1.0))
        if row.value < low or row.value > high:
            raise UsageError(
                f"metric {rule!r} gives example {row.key!r} {row.value:g} for {row.component!r}, outside its range "
                f"[{low:g}, {high:g}]: other ranges must be declared in Credits.ranges"
            )
        if not row.cluster:
            raise UsageError(
                f"example {row.key!r} has no cluster: intervals need to know which examples share a prompt"
            )
