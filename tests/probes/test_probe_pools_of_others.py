"""Pools as people have them, through the command line: what is wrong is named, what is missing is counted."""

import json
import math

import pytest
from command import rmeval

COMMANDS = ("best-of-n", "overopt", "rejection")


def write(path, *rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def rows(count=12, n=4, **more):
    return [
        {
            "id": f"p{i}",
            "prompt": f"Question {i}?",
            "completions": [f"answer {i} {k}" for k in range(n)],
            "rewards": [math.sin(i + 1.7 * k) for k in range(n)],
            "gold": [(i + k) % 3 == 0 for k in range(n)],
            "answers": [str((i * k) % 3) for k in range(n)],
            **more,
        }
        for i in range(count)
    ]


def numbers(value):
    """All numbers of a document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [x for one in value for x in numbers(one)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_probe_of_pools_prints_rows_and_lands_in_files(tmp_path, command):
    path = write(tmp_path / "p.jsonl", *rows())
    told = rmeval("probe", command, path, "-o", tmp_path / "out", "--json")
    assert told.code == 0, told.stderr
    assert all({"n", "value", "ci"} <= set(row) for row in told.document["rows"])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"{command}.{suffix}" for suffix in ("json", "svg", "png")
    }
    assert json.loads((tmp_path / "out" / f"{command}.json").read_text()) == told.document
    table = rmeval("probe", command, path)
    assert (table.code, "p.jsonl: 12 prompts" in table.stdout) == (0, True)


def test_a_pool_of_a_result_names_the_result(tmp_path):
    made = rmeval("run", "length", "--suite", "arithmetic", "--limit", 20, "--out", tmp_path, "--json").document
    [path] = [p for p in tmp_path.rglob("*.json") if "samples" not in p.name]
    for command in COMMANDS:
        assert rmeval("probe", command, path, "--json").document["result"] == made["id"]


@pytest.mark.parametrize(
    "command",
    [
        ("bias", "RESULT"),
        ("calibration", "RESULT"),
        ("robustness", "length", "--limit", 12, "--transformations", "padding"),
        ("search", "oracle", "--problems", 12, "--budget", "4"),
    ],
)
def test_probes_of_results_and_models_print_rows_too(tmp_path, command):
    rmeval("run", "length", "--suite", "arithmetic", "--limit", 20, "--out", tmp_path)
    [path] = [p for p in tmp_path.rglob("*.json") if "samples" not in p.name]
    found = rmeval("probe", *(path if one == "RESULT" else one for one in command), "--json").document
    assert found["rows"]
    assert all({"n", "value", "ci"} <= set(row) for row in found["rows"])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pool_without_gold_is_refused_where_gold_is_the_question(tmp_path, command):
    path = write(tmp_path / "p.jsonl", *({**row, "gold": None} for row in rows()))
    told = rmeval("probe", command, path)
    if command == "rejection":  # a choice can be described and exported without it
        assert (told.code, "no gold" in told.stdout) == (0, True)
    else:
        assert (told.code, told.stdout) == (2, "")
        assert "the pool has no gold" in told.stderr
    one = rows()
    one[3]["gold"] = None
    told = rmeval("probe", command, write(tmp_path / "q.jsonl", *one))
    assert "1 of 12 rows have no gold (first: 'p3')" in (told.stderr or told.stdout)


@pytest.mark.parametrize("command", ["best-of-n", "overopt"])
def test_an_n_above_a_pool_is_refused_and_names_the_smallest(tmp_path, command):
    path = write(tmp_path / "p.jsonl", *rows(), {**rows(1, 2)[0], "id": "small"})
    told = rmeval("probe", command, path, "-n", "1,2,4")
    assert (told.code, told.stdout) == (2, "")
    assert "n = 4: from 1 to 2, the candidates of its smallest row ('small')" in told.stderr


def test_unequal_pools_stop_at_the_smallest_and_show_whole_pools_beside(tmp_path):
    path = write(tmp_path / "p.jsonl", *rows(), {**rows(1, 2)[0], "id": "small"})
    told = rmeval("probe", "best-of-n", path, "--json").document
    assert [row["n"] for row in told["rows"]] == [1, 2]
    assert any("2 to 4 candidates: curves stop at 2" in note for note in told["notes"])
    whole = next(c for c in told["curves"] if c["panel"] == "whole pools")
    assert [p["at"] for p in whole["points"]] == ["best of n", "oracle", "random", "majority", "weighted"]
    assert all(p["n"] == 13 for p in whole["points"])
    assert any("2 to 4" in note for note in rmeval("probe", "overopt", path, "--json").document["notes"])


def test_missing_rewards_are_counted_and_change_nothing_else(tmp_path):
    complete, holed = rows(), rows()
    holed[5]["rewards"][2] = None
    whole = rmeval("probe", "best-of-n", write(tmp_path / "a.jsonl", *complete), "--json").document
    without = rmeval(
        "probe", "best-of-n", write(tmp_path / "b.jsonl", *(r for r in complete if r["id"] != "p5")), "--json"
    ).document
    missing = rmeval("probe", "best-of-n", write(tmp_path / "c.jsonl", *holed), "--json").document
    assert [row["n_missing"] for row in missing["rows"]] == [1, 1, 1]
    assert [row["value"] for row in missing["rows"]] == [row["value"] for row in without["rows"]]

    def oracle(document):
        return next(c for c in document["curves"] if c["name"] == "oracle")

    assert oracle(missing) == oracle(whole)  # needs no rewards
    told = rmeval("probe", "overopt", tmp_path / "c.jsonl")
    assert "1 prompts with a missing reward are left out" in told.stdout
    assert "11 (1 missing)" in rmeval("probe", "best-of-n", tmp_path / "c.jsonl").stdout


def test_rewards_that_are_all_missing_make_no_curve(tmp_path):
    path = write(tmp_path / "p.jsonl", *rows(rewards=[None] * 4))
    told = rmeval("probe", "best-of-n", path, "--json").document
    assert {(row["value"], row["ci"], row["n_missing"]) for row in told["rows"]} == {(None, None, 12)}
    assert rmeval("probe", "overopt", path).code == 2


def test_constant_rewards_are_luck_and_optimise_nothing(tmp_path):
    path = write(tmp_path / "p.jsonl", *rows(rewards=[0.5] * 4))
    told = rmeval("probe", "best-of-n", path, "--json").document
    curves = {c["name"]: [p["value"] for p in c["points"]] for c in told["curves"]}
    assert curves["best of n"] == pytest.approx(curves["random"])
    assert "12 prompts have one reward for all candidates: the choice there is random" in told["notes"]
    told = rmeval("probe", "overopt", path, "--json").document
    assert (told["fits"], told["over_optimised"]) == ([], False)
    assert "all rewards are equal" in told["no_fit"]


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1e999", '"0.5"', "true"])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_number_is_refused_with_its_line(tmp_path, command, bad):
    good = [json.dumps(row) for row in rows()]
    first = json.dumps(rows()[4]["rewards"][0])
    good[4] = good[4].replace(first, bad, 1)
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(good) + "\n")
    told = rmeval("probe", command, path)
    assert (told.code, told.stdout) == (2, "")
    assert "line 5" in told.stderr


def test_no_document_holds_a_number_that_is_none(tmp_path):
    holed = rows()
    holed[0]["rewards"][0] = None
    path = write(tmp_path / "p.jsonl", *holed)
    for command in COMMANDS:
        found = numbers(rmeval("probe", command, path, "--json").document)
        assert found
        assert all(map(math.isfinite, found)), command
