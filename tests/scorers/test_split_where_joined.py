"""A text without steps comes apart at the separator that the model was trained to read."""

import pytest
import step_models as sm

from rmeval import arguments, runner
from rmeval.models import load_model
from rmeval.training.config import PRMConfig
from rmeval.types import Candidate, Example, Labels, Message

ABOUT = {"kind": "prm", "aggregate": "min", "boundary": "last-token"}


def steps_scored(folder, text: str, kind: str | None = None, **scorer: str) -> int:
    example = Example("x", (Message("user", "2 + 2?"),), (Candidate(text),), Labels((1.0,)), "s", cluster="x")
    model = load_model(str(folder), scorer=kind, given={"scorer": scorer})
    [row] = runner.run([example], model.scorer, model.engine).judgements
    return len(row.step_scores[0])


@pytest.mark.parametrize(("separator", "text", "count"), [("\n", "a\nb\nc", 3), ("\n\n", "a\nb\n\nc", 2)])
def test_a_checkpoint_of_ours_is_split_at_its_own_separator(tmp_path, separator, text, count):
    labels = {0: "incorrect", 1: "correct"}
    sm.saved(
        tmp_path, "qwen2", "AutoModelForTokenClassification", num_labels=2, id2label=labels,
        rmeval=ABOUT | {"step_separator": separator}, problem_type="single_label_classification",
    )  # fmt: skip
    assert steps_scored(tmp_path, text) == count


def test_so_is_one_of_trl_whose_separator_is_said(tmp_path):
    sm.saved(tmp_path, "qwen2", "AutoModelForTokenClassification", num_labels=2)
    assert steps_scored(tmp_path, "a\nb\nc", kind="process", separator="\n") == 3


def test_a_separator_typed_in_a_shell_is_a_line_break_not_two_signs(tmp_path):
    r"""The message that asks for it says `-a scorer.separator="\n"`, and a shell passes on a backslash and an n."""
    sm.saved(tmp_path, "qwen2", "AutoModelForTokenClassification", num_labels=2)
    given = arguments.parse([r"scorer.separator=\n"])
    model = load_model(str(tmp_path), scorer="process", given=given)
    assert model.scorer.identity()["steps"]["separator"] == "\n"
    assert steps_scored(tmp_path, "a\nb\nc", kind="process", separator=r"\n") == 3
    assert PRMConfig(step_separator=r" ки\n").step_separator == " ки\n"
