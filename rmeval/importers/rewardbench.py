"""RewardBench: `eval-set-scores/<org>/<model>.json` of allenai/reward-bench-results, and `<model>_outputs.jsonl`.

An object of columns: `id`, `subset`, `text_chosen`, `text_rejected`, `scores_chosen`, `scores_rejected`, `results`, and
once `model`, `model_type`, `chat_template`. Scores may be one-element lists; texts are formatted conversations, as a
string or as messages. Judges have no scores but `results`: 1 for the chosen response, 0 for the rejected one, 0.5 for a
tie or an answer that could not be read. The command line of upstream writes the same columns as JSON lines, without ids
where its data set has none: those rows are matched by place.

What this module does not know: sections, weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rmeval.errors import UsageError
from rmeval.importers import rows as shared
from rmeval.importers.imported import Imported
from rmeval.readers.rows import Row
from rmeval.types import Example, Recorded, Verdict

_WINNER = {1: "A", 0: "B", 0.5: "tie"}


def rewardbench(paths: Sequence[Path], examples: Sequence[Example]) -> Imported:
    """Scores of chosen and rejected responses, or a judge's choices between them."""
    tables = shared.read_tables(paths)
    found: dict[str, Recorded] = {}
    judged, halves = 0, 0
    for row, one in matched(tables, examples):
        pair = row.values.get("scores_chosen"), row.values.get("scores_rejected")
        shared.holds(row, "text_chosen", row.values.get("text_chosen"), one.candidates[0].body, one)
        shared.holds(row, "text_rejected", row.values.get("text_rejected"), one.candidates[-1].body, one)
        if pair == (None, None) and row.values.get("results") is not None:
            shared.check_count(pair, one, row.place)
            credit = row.values["results"]
            if isinstance(credit, list | dict) or credit not in _WINNER:
                raise UsageError(f"{row.place}: results is {credit!r}, and only 1, 0 and 0.5 say which response won")
            found[one.id] = Recorded(verdicts=(Verdict((0, 1), _WINNER[credit]),))
            judged, halves = judged + 1, halves + (credit == 0.5)
        else:
            found[one.id] = shared.scores(pair, one, row.place)
    notes = []
    if judged:
        notes.append(f"{judged} rows hold no scores but the response that won; in which order it saw them is not known")
    if halves:
        notes.append(f"{halves} ties or unread answers are published as one and recorded as ties")
    return Imported(model_of(tables), found, tuple(paths), notes=tuple(notes))


def matched(tables: Sequence[shared.Table], examples: Sequence[Example]) -> Iterator[tuple[Row, Example]]:
    """Rows with their examples: by id within the subset, which is how upstream's ids are unique, else by place."""
    by_id = shared.Matcher(examples)
    subsets = {one.id: one.subset for one in examples}
    for table in tables:
        if not any("id" in row.values for row in table.rows):
            for row in table.rows:
                shared.column(row, "text_chosen")  # without ids, texts are all that tells rows apart
            yield from shared.in_order(table, examples, "the suite")
            continue
        seen: Counter[str] = Counter()
        for row in table.rows:
            key, subset = str(shared.column(row, "id")), str(shared.column(row, "subset"))
            place = f"{subset}/{seen[subset]}"
            seen[subset] += 1
            # an id that an earlier subset used already is called by its place in its own
            again = subsets.get(key, subset) != subset and place in by_id
            one = by_id.by_id(place if again else key, row.place)
            if one.subset != subset:
                raise UsageError(
                    f"{row.place}: example {key!r} is of subset {subset!r} here, of {one.subset!r} in the suite"
                )
            yield row, one


def model_of(tables: Sequence[shared.Table]) -> str:
    """The model that the files name, else what the files are called."""
    return shared.one_name(
        {
            str(t.about.get("model") or t.path.name.partition(".json")[0].removesuffix("_outputs")): t.path
            for t in tables
        }
    )
