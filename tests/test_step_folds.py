"""Training rows of the step suites: no problem of a scored sample is among them, and no label is invented."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.step_folds import problem_keys, training_row, unseen
from rmeval.types import Candidate, Example, Labels, Message

KEYS = st.lists(st.frozensets(st.sampled_from("abcdefghij"), min_size=1, max_size=3), min_size=1, max_size=12)


def solution(name: str, prompt: str, steps: tuple[str, ...], grades: tuple[int, ...], cluster: str = "c") -> Example:
    labels = Labels((float(0 not in grades),), (grades,))
    return Example(
        name, (Message("user", prompt),), (Candidate("\n".join(steps), steps),), labels, "s", cluster=cluster
    )


@given(KEYS, st.data())
def test_no_chain_of_shared_keys_leads_from_a_row_kept_to_one_held_out(keys, data):
    held = data.draw(st.sets(st.sampled_from(range(len(keys)))))
    reached = set().union(*(keys[i] for i in held))
    for _ in keys:
        reached |= set().union(*(some for some in keys if some & reached))
    assert unseen(keys, held) == [i for i, some in enumerate(keys) if not some & reached]


def test_a_problem_is_known_across_suites_by_its_text_and_in_prmbench_by_its_number():
    plain = problem_keys("processbench", solution("math-1", "What is $2 + 3$?", ("5",), (1,)))
    other = problem_keys("prmbench", solution("s_p1_7", "what  is 2+3 ?", ("5",), (1,), cluster="Another wording"))
    third = problem_keys("prmbench", solution("s_p1_7", "What is 2 + 4?", ("6",), (1,), cluster="Another"))
    far = problem_keys("mr-ben", solution("math/0", "What is 2 - 3?", ("-1",), (1,)))
    assert plain & other == {"text:whatis2+3?"}
    assert not plain & far
    assert not plain & third
    assert other & third == {"prmbench:p1_7"}


def test_a_row_ends_at_the_last_step_that_has_a_label_and_keeps_gaps():
    row = training_row("steps", solution("a", "2 + 3?", ("5", "6", "7"), (1, 0, -1)))
    assert row is not None
    assert (row["steps"], row["labels"]) == (["5", "6"], [True, False])
    gap = training_row("steps", solution("a", "2 + 3?", ("5", "6", "7"), (1, -1, 0)))
    assert gap is not None
    assert gap["labels"] == [True, None, False]
    assert training_row("steps", solution("a", "2 + 3?", ("5", "6"), (-1, -1))) is None
    assert training_row("steps", solution("a", "2 + 3?", ("5", " "), (1, 0))) is None
