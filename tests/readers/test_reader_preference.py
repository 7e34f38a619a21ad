"""Rows become examples in the data set's own order, and every malformed row is named."""

from __future__ import annotations

import pytest

from rmeval.cards import Layout, SuiteCard
from rmeval.errors import UsageError
from rmeval.readers import preference
from rmeval.readers.rows import Row
from rmeval.types import NoText


def card(reader: str, fields: dict[str, str], **options) -> SuiteCard:
    return SuiteCard.model_validate(
        {
            "name": "toy",
            "version": 1,
            "title": "Toy",
            "summary": "A toy.",
            "licence": "ours",
            "reader": reader,
            "options": options,
            "fields": fields,
            "rule": {"name": "accuracy"},
        }
    )


def read(the_card: SuiteCard, rows: list[dict], layout: Layout | None = None):
    numbered = (Row(row, f"toy.jsonl line {line}") for line, row in enumerate(rows, 1))
    return list(getattr(preference, the_card.reader)(numbered, the_card, layout, 0))


PAIRS = card(
    "pairs", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "id": "id?", "subset": "subset?"}
)
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}


def bodies(example):
    return [candidate.text for candidate in example.candidates]


def test_a_pair_stands_chosen_first_with_grades_beside_it():
    (one,) = read(PAIRS, [PAIR])
    assert (one.id, one.subset, bodies(one), one.labels.grades) == ("toy/0", "toy", ["a", "b"], (1.0, 0.0))


def test_ids_count_within_the_subset_and_prompts_share_a_cluster():
    rows = [{**PAIR, "subset": s} for s in "xyx"] + [{**PAIR, "prompt": "other", "subset": "y"}]
    examples = read(PAIRS, rows)
    assert [one.id for one in examples] == ["x/0", "y/0", "x/1", "y/1"]
    assert len({one.cluster for one in examples[:3]}) == 1
    assert examples[3].cluster != examples[0].cluster


@pytest.mark.fault("F11")
def test_equal_texts_are_legal():
    assert bodies(read(PAIRS, [{**PAIR, "rejected": "a"}])[0]) == ["a", "a"]


@pytest.mark.fault("F11")
def test_every_malformed_row_is_named_with_its_place():
    rows = [
        {**PAIR, "id": "one"},
        {"prompt": "q", "chosen": "a"},
        {**PAIR, "chosen": 7},
        {**PAIR, "prompt": "  "},
        {**PAIR, "rejected": None},
        {**PAIR, "id": "one"},
        {**PAIR, "id": 1.5},
        {**PAIR, "id": "two"},
    ]
    with pytest.raises(UsageError, match="6 malformed rows") as caught:
        read(PAIRS, rows)
    lines = str(caught.value).splitlines()[1:]
    expected = [
        "line 2: no 'rejected'",
        "line 3: chosen must be a text, found a number",
        "line 4: prompt is empty",
        "line 5: no 'rejected'",
        "line 6: id 'one' stands twice, first in toy.jsonl line 1",
        "line 7: id must be a text or a whole number, found 1.5",
    ]
    assert [line.strip() for line in lines] == [f"toy.jsonl {line}" for line in expected]


@pytest.mark.fault("F11")
def test_only_the_first_twenty_malformed_rows_are_spelled_out():
    with pytest.raises(UsageError, match="30 malformed rows") as caught:
        read(PAIRS, [{"prompt": "q"}] * 30)
    assert str(caught.value).splitlines()[-1].strip() == "... and 10 more"
    assert len(str(caught.value).splitlines()) == 22


def test_a_misspelt_role_in_a_card_is_named_with_the_near_miss():
    with pytest.raises(UsageError, match="'prompts'. Did you mean 'prompt'"):
        read(card("pairs", {"prompts": "q", "chosen": "a", "rejected": "b"}), [PAIR])


def test_without_a_prompt_field_the_pair_shares_it():
    whole = card("pairs", {"chosen": "chosen", "rejected": "rejected"})
    row = {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}
    (one,) = read(whole, [row])
    assert (one.prompt[0].content, bodies(one)) == ("q", ["a", "b"])


def test_labels_say_which_wins_and_never_change_the_order():
    the_card = card(
        "labelled_pairs",
        {"prompt": "q", "first": "response_A", "second": "response_B", "label": "label"},
        first_wins="A>B",
        second_wins="B>A",
    )
    rows = [{"q": "q", "response_A": "a", "response_B": "b", "label": label} for label in ("A>B", "B>A")]
    first, second = read(the_card, rows)
    assert bodies(first) == bodies(second) == ["a", "b"]
    assert (first.labels.grades, second.labels.grades) == ((1.0, 0.0), (0.0, 1.0))
    with pytest.raises(UsageError, match="label is 'A=B', expected 'A>B' or 'B>A'"):
        read(the_card, [{**rows[0], "label": "A=B"}])


def test_whole_number_labels_match_their_spelling():
    fields = {"prompt": "q", "first": "a", "second": "b", "label": "label"}
    (one,) = read(
        card("labelled_pairs", fields, first_wins="1", second_wins="2"), [{**dict.fromkeys("qab", "t"), "label": 2}]
    )
    assert one.labels.grades == (0.0, 1.0)


def test_a_reader_without_its_option_says_which():
    with pytest.raises(UsageError, match=r"options\.first_wins"):
        read(card("labelled_pairs", {"prompt": "q", "first": "a", "second": "b", "label": "l"}), [])


BEST = card("best_of_k", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"})


def test_best_of_k_grades_all_right_ones():
    (one,) = read(BEST, [{"prompt": "q", "chosen": ["a", "b"], "rejected": ["c"]}])
    assert (bodies(one), one.labels.grades) == (["a", "b", "c"], (1.0, 1.0, 0.0))
    (two,) = read(BEST, [{"prompt": "q", "chosen": "a", "rejected": ["b", "c"]}])
    assert two.labels.grades == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("rejected", "says"), [([], "rejected is an empty list"), (["a", None], "found null")])
def test_best_of_k_needs_rejected_texts(rejected, says):
    with pytest.raises(UsageError, match=says):
        read(BEST, [{"prompt": "q", "chosen": ["a"], "rejected": rejected}])


def test_a_style_matrix_tags_styles_and_nothing_else():
    fields = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    matrix = card("style_matrix", fields, styles=["concise", "detailed"])
    (one,) = read(matrix, [{"prompt": "q", "chosen": ["a", "b"], "rejected": ["c", "d"]}])
    assert bodies(one) == ["a", "b", "c", "d"]
    assert [dict(c.tags) for c in one.candidates] == [{"style": "concise"}, {"style": "detailed"}] * 2
    assert one.labels.grades == (1.0, 1.0, 0.0, 0.0)
    with pytest.raises(UsageError, match="rejected has 1 responses, one per style is expected: concise, detailed"):
        read(matrix, [{"prompt": "q", "chosen": ["a", "b"], "rejected": ["c"]}])


MARKED = {"prompt": "problem", "marks": "marks"}


def test_marked_candidates_without_texts_are_score_only():
    (one,) = read(card("marked_list", MARKED, right="human", k=3), [{"problem": "q", "marks": ["x", "human", "y"]}])
    assert one.labels.grades == (0.0, 1.0, 0.0)
    with pytest.raises(NoText):
        _ = one.candidates[0].text
    assert not any(candidate.tags for candidate in one.candidates), "the mark would give the label away"


def test_marked_candidates_with_steps_keep_them():
    layout = Layout(name="texts", fields={"responses": "solutions"})
    rows = [{"problem": "q", "marks": ["human", "x"], "solutions": [["one", "two"], "three"]}]
    (one,) = read(card("marked_list", MARKED, right="human"), rows, layout)
    assert [(c.text, c.steps) for c in one.candidates] == [("one\ntwo", ("one", "two")), ("three", ())]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"marks": ["human", "x"]}, "3 marked candidates expected, found 2"),
        ({"marks": "human"}, "found none"),
        ({"marks": ["x", "y", "z"]}, "no candidate is marked 'human'; the marks are x, y, z"),
    ],
)
def test_marks_that_do_not_fit_are_refused(row, says):
    with pytest.raises(UsageError, match=says):
        read(card("marked_list", MARKED, right="human", k=3), [{"problem": "q", **row}])


def test_a_layout_may_change_and_take_away_fields():
    layout = Layout(name="other", fields={"prompt": "question", "subset": ""})
    (one,) = read(PAIRS, [{"question": "q", "chosen": "a", "rejected": "b", "subset": "x"}], layout)
    assert (one.prompt[0].content, one.subset) == ("q", "toy")
