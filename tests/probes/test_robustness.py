"""Transformations keep the label, proved on the arithmetic world; drops, the attack and the command by hand."""

from __future__ import annotations

import ast
import random
import re

import pytest
from command import rmeval

from rmeval.arithmetic.problems import Problem, compute, draw_problems, seeded
from rmeval.arithmetic.solutions import STYLES, render, right_solution, wrong_solution
from rmeval.errors import UsageError
from rmeval.final_answers import final_answer, same_answer
from rmeval.models import load_model
from rmeval.probes.robustness import TRANSFORMATIONS, attack, chosen, drops, probe_robustness, transform
from rmeval.probes.robustness.attack import PANEL
from rmeval.probes.robustness.pairs import PairScores, credit, pair_scores
from rmeval.probes.robustness.prose import prose
from rmeval.types import NAN, Candidate, Example, Judgement, Labels, Message, Verdict

EQUATION = re.compile(r"(\d+) ([-+×÷]) (\d+) = (\d+)")


def equations(text: str, problem: Problem) -> list[tuple[str, ...]]:
    """The equations written in a text, as written, the problem's own text left out."""
    return EQUATION.findall(text.replace(problem.text, ""))


def is_right(text: str, problem: Problem) -> bool:
    """The checker of the world: every equation holds and is the problem's, and the answer is the problem's."""
    answer = final_answer(text)
    held = equations(text, problem)
    sound = all(compute(s, int(a), int(b)) == int(r) for a, s, b, r in held)  # type: ignore[arg-type]
    mine = [int(r) for *_, r in held] == list(problem.results)
    return sound and mine and answer is not None and same_answer(answer, str(problem.answer))


def spoken(lines: tuple[str, ...]) -> str:
    """A solution as one paragraph of sentences, as a model may write it, which has no list."""
    return " ".join(f"{re.sub(r'^[0-9]+[.] ', '', line)}." for line in lines)


@pytest.fixture(scope="module")
def world() -> list[tuple[Problem, Example]]:
    """80 problems, each with a right and a wrong solution in one of the styles, or as a paragraph."""
    rng = seeded("robustness", 0)
    problems = draw_problems("test", rng)
    made = []
    for number in range(80):
        problem = next(problems)
        style = (*STYLES, "detailed")[number % 4]
        texts = []
        for solution in (right_solution(problem), wrong_solution(problem, rng)):
            steps = render(solution, style, rng)
            texts.append(spoken(steps) if number % 4 == 3 else "\n".join(steps))
        two = tuple(map(Candidate, texts))
        prompt = (Message("user", problem.text),)
        made.append((problem, Example(f"{number}", prompt, two, Labels((1.0, 0.0)), style, cluster=problem.id)))
    return made


ELSEWHERE = {
    *("thousands", "no-thousands", "units", "typography"),
    *("code-rename", "code-comments", "code-blank-lines"),
}
"""They apply nowhere in that world: its numbers are small and it has no code."""


@pytest.mark.parametrize("how", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_the_label_is_kept_on_the_arithmetic_world(how, world):
    applied = 0
    for problem, example in world:
        changed = transform(example, how)
        if changed is None:
            continue
        applied += 1
        assert changed.places == (0, 1)
        assert changed.example.labels.grades == (1.0, 0.0)
        for old, new, right in zip(example.candidates, changed.example.candidates, (True, False), strict=True):
            assert is_right(new.text, problem) is is_right(old.text, problem) is right
            assert equations(new.text, problem)[: len(equations(old.text, problem))] == equations(old.text, problem)
            assert (new.text == old.text) is (how.changes == "prompt")
        numbers = re.findall(r"\d+", example.prompt[0].content)
        assert re.findall(r"\d+", changed.example.prompt[0].content) == numbers
        assert (changed.example.prompt == example.prompt) or how.changes != "responses"
        assert transform(example, how) == changed  # deterministic
    assert (applied == 0) is (how.name in ELSEWHERE)


def edited(name: str, text: str, seed: int = 0, prompt: str = "What is it?") -> str | None:
    return TRANSFORMATIONS[name].edit(text, random.Random(seed), prompt)


@pytest.mark.parametrize("seed", range(30))
def test_typos_leave_code_numbers_formulas_and_quotations_alone(seed):
    held = [
        "```python\nvariable = another(variable)\n```", "`inline_variable`", "$\\alpha + variable$", '"quoted sentence"',
        "length = breadth * height", "https://example.org/something/longer", "12345", "Margaret", "thirteen",
    ]  # fmt: skip
    text = (
        f"Suppose somebody wonders about {held[1]} and {held[2]} under {held[3]} conditions.\n{held[0]}\n"
        f"Where {held[4]}, following the {held[5]} description, Margaret counted thirteen or 12345 somewhere.\n"
        "    indented programming statement without meaning\n    return nothing_interesting"
    )
    new = edited("typos", text, seed)
    assert new is not None
    assert new != text
    assert all(one in new for one in held)
    assert new.partition("    indented")[2] == text.partition("    indented")[2]
    assert sorted(new) == sorted(text)


def test_code_is_no_prose():
    code = "import os\nint main() {\nint total = 0;\n// add them all up now\n#include <vector>\nfor value in values:"
    assert prose(code) == []


@pytest.mark.parametrize(
    ("name", "text", "new"),
    [
        ("thousands", "It has 12000 parts; 3000, too.", "It has 12,000 parts; 3,000, too."),
        ("thousands", "Founded in 1987, id A12345, 1.23456, 01234, `12000`, $12000$ or 2024-12000.", None),
        ("no-thousands", "It costs 1,000,000 or 2,500.", "It costs 1000000 or 2500."),
        ("no-thousands", "The interval (1,000) and [1,200]", None),
        ("units", "1 km and 2.5 kg, 5% off.", "1 kilometre and 2.5 kilograms, 5 percent off."),
        ("units", "5 kgs, x%2, m/s", None),
        ("markdown-off", "### A *b* c\n- **d** e\n```\n# f\n- g\n```", "A *b* c\nd e\n```\n# f\n- g\n```"),
        ("markdown-off", "Nothing here.", None),
        ("markdown-on", "This is a plain reply.", "### Response\n\n**This is a** plain reply."),
        ("markdown-on", "- This is a list", None),
        ("bullets", "One sentence only here.", None),
        ("answer-boxed", "So we add.\nThe answer is 7.", "So we add.\n\\boxed{7}"),
        ("answer-sentence", "Thus it is $\\boxed{\\frac{1}{2}}$.", "Thus it is $\\frac{1}{2}$.\nThe answer is \\frac{1}{2}."),
        ("answer-hash", "It was **Tuesday**", None),
        ("answer-hash", "2 + 3\n**5**", "2 + 3\n#### 5"),
        ("answer-boxed", "no answer at all in this", None),
        ("typography", "It's a well - known man's tale", "It’s a well – known man’s tale"),
        ("final-stop", "Here it ends. Truly here...\nAnd here it ends.", "Here it ends. Truly here...\nAnd here it ends"),
        ("first-letter", "Then I went on. Nobody saw NASA there.", "then I went on. nobody saw NASA there."),
        ("quoted-prompt", "It is not known yet.", "> What is it?\n\nIt is not known yet."),
    ],
)  # fmt: skip
def test_edits_by_hand(name, text, new):
    assert edited(name, text) == new


FUNCTION = '''
def collatz(n, *, limit=100):
    """Steps until 1; mentions `seen`."""
    steps, seen = 0, set()
    while n != 1 and steps < limit:
        half = n // 2
        triple = 3 * n + 1
        n = half if n % 2 == 0 else triple
        seen.add(f"{half}")
        steps += 1
    return steps, sorted(value for value in seen)
'''


def run_it(code: str, *values: int) -> list[object]:
    space: dict[str, object] = {}
    exec(compile(code, "example", "exec"), space)
    return [space["collatz"](value) for value in values]  # type: ignore[operator]


@pytest.mark.parametrize("name", ["code-rename", "code-comments", "code-blank-lines"])
@pytest.mark.parametrize("around", ["{}", "Use this:\n```python{}```\nDone.", "Use this:\n{}\nThat was all of it."])
def test_edits_of_code_do_not_change_what_it_does(name, around):
    new = edited(name, around.format(FUNCTION), seed=3)
    assert new is not None
    start = new.index("def collatz")
    code = new[start:].partition("```")[0].partition("\nThat was")[0]
    assert code.strip() != FUNCTION.strip()
    assert run_it(code, 6, 7, 27) == run_it(FUNCTION, 6, 7, 27)
    if name == "code-rename":
        assert "seen" in code  # the docstring mentions it
        assert not re.search(r"\b(half|triple)\b", code)
        assert "limit" in code
    else:
        assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(FUNCTION))


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return eval('x')",
        "def f(x):\n    print(locals())\n    y = x",
        "y = 1\ndef f(x):\n    y = 2\n    return y",
        "def f(x):\n    global total\n    total = x",
        "def f(x):\n    import numpy as y\n    y = x\n    return y",
        "def f(x:\n    y",
        "let y = 1;",
    ],
)
def test_names_that_others_may_see_are_not_changed(code):
    assert edited("code-rename", code) is None


# --- drops -----------------------------------------------------------------------------------------------------------


def row(example: str, before: tuple[float, float], after: tuple[float, float], wrong: int = 1) -> PairScores:
    return PairScores(example, example, "all", 0, wrong, before, after)


GOOD, BAD, TIE, NONE = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (NAN, 0.0)


def test_a_drop_by_hand():
    how = chosen(["whitespace", "typos"])
    rows = {
        "whitespace": [row("a", GOOD, BAD), row("b", GOOD, GOOD), row("c", GOOD, TIE), row("d", BAD, GOOD),
                       row("e", GOOD, BAD, 1), row("e", GOOD, GOOD, 2), row("f", GOOD, NONE)],
        "typos": [],
    }  # fmt: skip
    spaces, typos = drops(rows, how, examples=9)
    assert spaces.original.value == pytest.approx(4 / 5)
    assert spaces.transformed.value == pytest.approx((0 + 1 + 0.5 + 1 + 0.5) / 5)
    assert spaces.drop.value == pytest.approx((1 + 0 + 0.5 - 1 + 0.5) / 5)
    assert (spaces.drop.n, spaces.drop.n_missing, spaces.not_applicable, spaces.pairs) == (5, 1, 3, 7)
    # of the 16 ways to sign (1, .5, 1, .5) the sum is at least 1 away from 0 in 12
    assert spaces.p == spaces.p_holm == pytest.approx(12 / 16)
    assert (typos.drop.value, typos.p, typos.p_holm, typos.not_applicable) == (None, None, None, 9)


def test_holm_over_what_applies():
    how = chosen(["whitespace", "typos"])
    lost = [row(str(i), GOOD, BAD) for i in range(8)]
    both = drops({"whitespace": lost, "typos": lost[:7]}, how, examples=8)
    assert [one.p for one in both] == pytest.approx([2 / 2**8, 2 / 2**7])
    assert [one.p_holm for one in both] == pytest.approx([2 * 2 / 2**8, 2 / 2**7])


def test_missing_and_tied_pairs():
    assert credit(TIE) == 0.5
    assert credit(NONE) != credit(NONE)


def test_verdicts_count_where_they_are_about_the_two():
    verdicts = (Verdict((0, 1), "A"), Verdict((1, 0), "A"), Verdict((0, 2), "B"), Verdict((2, 0), "A"))
    before = Judgement("x", "s", "", "c", (1.0, 0.0, 0.0), verdicts=verdicts)
    after = Judgement("x", "s", "", "c", (1.0, 0.0), verdicts=(Verdict((0, 1), "B"), Verdict((1, 0), "A")))
    (found,) = pair_scores(before, after, places=(0, 1))
    assert found.before == (0.5, 0.5)  # the third response won, which does not matter here
    assert found.after == (0.0, 1.0)


# --- the attack ------------------------------------------------------------------------------------------------------


def test_the_attack_by_hand():
    # three edits: the wrong response gets 0.5, 2 and 3 where the right one had 1; edited alike the right one gets 4
    rows = {
        "whitespace": [row("a", GOOD, (1.0, 0.5)), row("b", BAD, BAD)],
        "padding": [row("a", GOOD, (4.0, 2.0))],
        "restated": [row("a", GOOD, (2.0, 3.0))],
    }
    found = attack(rows)
    assert (found.n, found.pairs) == ((1, 2, 3), 1)
    flipped, control, bought = ([point.value for point in curve.points] for curve in found.curves)
    assert flipped == pytest.approx([2 / 3, 1.0, 1.0])
    assert control == pytest.approx([1 / 3, 2 / 3, 1.0])  # the best of {1}, {2} or {3}; of pairs 2 times in 3 the third
    assert bought == pytest.approx([1 / 3, 1 / 3, 0.0])
    assert found.best == {"restated": 1.0}


def test_an_edit_that_lowers_the_score_flips_nothing():
    found = attack({"padding": [row("a", GOOD, (-5.0, -3.0))]})
    assert [curve.points[0].value for curve in found.curves] == [0.0, 1.0, -1.0]


def test_no_attack_on_a_judge_and_on_nothing():
    assert "judge" in attack({}, judged=True).undefined
    assert "no pair" in attack({"padding": [row("a", BAD, BAD)]}).undefined


# --- whole -----------------------------------------------------------------------------------------------------------


def test_padding_buys_a_length_scorer_and_nothing_buys_a_constant(world):
    examples = [example for _, example in world]
    length = probe_robustness(load_model("length"), examples, chosen(["length"]))
    assert all(one.drop.value == pytest.approx(0, abs=0.2) for one in length.drops)
    bought = next(c for c in length.attack.curves if c.name == "difference").points[-1]
    assert bought.value is not None
    assert bought.value > 0.8
    constant = probe_robustness(load_model("constant"), examples, chosen(["natural", "length"]))
    assert [one.drop.value for one in constant.groups] == [0.0, 0.0]
    assert constant.attack.undefined
    assert {c.panel for c in constant.attack.curves} == {PANEL}


def test_the_command(tmp_path):
    options = ("--suite", "arithmetic", "--limit", 20, "--store", tmp_path / "s.sqlite")
    wanted = ("--transformations", "typos,answer-boxed,long-padding")
    told = rmeval("probe", "robustness", "length", *options, *wanted, "-o", tmp_path / "out", "--json")
    assert told.code == 0
    document = told.document
    assert (document["probe"], document["suite"], document["complete"]) == ("robustness", "arithmetic", False)
    assert [one["transformation"] for one in document["rows"]] == ["typos", "answer-boxed", "long-padding"]
    assert [one["changes"] for one in document["rows"]] == ["both", "responses", "responses"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"robustness.json", "robustness.svg", "robustness.png"}
    table = rmeval("probe", "robustness", "length", *options, *wanted)
    assert "p (Holm)" in table.stdout
    assert "best edit of the rejected response" in table.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("length", "--transformations", "typo"), "typos"),
        (("length", "--transformations", ","), "names none"),
        (("length", "--suite", "arithmetic-steps"), "kind process"),
    ],
)
def test_what_cannot_be_asked(arguments, said):
    told = rmeval("probe", "robustness", *arguments)
    assert (told.code, told.stdout) == (2, "")
    assert said in told.stderr


def test_recorded_outputs_cannot_score_new_texts(tmp_path, world):
    file = tmp_path / "r.jsonl"
    file.write_text('{"id": "0", "scores": [1, 0]}\n')
    with pytest.raises(UsageError, match="recorded"):
        probe_robustness(load_model(f"replay:{file}"), [world[0][1]], chosen(None))
