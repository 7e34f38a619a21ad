"""`rmeval export`: what is written, read back by whoever it is meant for."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from datetime import UTC, datetime

import made_results
import own_rows
import pytest
from command import ROOT, rmeval

from rmeval import results, samples, strict_json
from rmeval.errors import UsageError
from rmeval.exports.every_eval_ever import every_eval_ever
from rmeval.exports.exported import Told
from rmeval.exports.formats import FORMATS, export
from rmeval.records import DataRecord, SuiteRecord
from rmeval.suites import load_suite
from rmeval.types import NAN, Judgement, Metric, Verdict

COMMIT = "5503434ddd753f426f4b38109466949a1217c2bb"


def hub_suite(suite="reward-bench", source=f"hub:allenai/reward-bench@{COMMIT}", examples=160, **more):
    return SuiteRecord(
        name=suite, version=1, examples=examples, data=DataRecord(source=source, sha256=made_results.SHA, **more)
    )


def on_hub(tmp_path, **changes):
    """A complete result whose suite is a data set on the hub."""
    rows = made_results.pairs()
    made = {"suite_record": hub_suite(revision=COMMIT), **changes}
    return results.load_result(made_results.write(tmp_path, rows, **made))


def written(view, to, **told):
    """The one file of a format."""
    files = export(view, to, Told(**told)).files
    assert list(files) == [""]
    return files[""]


# --- rows ------------------------------------------------------------------------------------------------------------


def test_csv_holds_every_number_of_to_pandas(tmp_path):
    view = results.load_result(made_results.write(tmp_path, made_results.pairs(missing=0.1)))
    read = list(csv.DictReader(io.StringIO(written(view, "csv").decode(), newline="")))
    told = view.to_pandas().to_dict("records")
    assert len(read) == len(told) == 320
    assert any(math.isnan(row["score"]) for row in told)
    for one, other in zip(read, told, strict=True):
        assert (one["id"], int(one["candidate"])) == (other["id"], other["candidate"])
        assert float(one["score"] or "nan") == pytest.approx(other["score"], abs=0, nan_ok=True)
        assert one["reason"] == ("truncated" if math.isnan(other["score"]) else "")


def hostile(name):
    return Judgement(name, subset="+1", group="@sum", cluster="\tx", grades=(1.0, 0.0), scores=(-1.5, -2.0))


@pytest.mark.fault("F53")
def test_csv_is_inert_in_a_spreadsheet(tmp_path):
    names = ['=cmd|"/C calc"!A0', "-2+3", 'a,"b"\nc', "ordinary", "\rx"]
    view = results.load_result(made_results.write(tmp_path, [hostile(name) for name in names]))
    read = list(csv.reader(io.StringIO(written(view, "csv").decode(), newline="")))
    assert [row[0] for row in read[1::2]] == ['\'=cmd|"/C calc"!A0', "'-2+3", 'a,"b"\nc', "ordinary", "'\rx"]
    number = re.compile(r"-?\d+(\.\d+)?")
    for row in read:
        assert not [
            cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not number.fullmatch(cell)
        ]
    assert read[1][read[0].index("score")] == "-1.5"
    assert read[1][read[0].index("reason")] == ""


def test_parquet_is_read_back_by_pandas(tmp_path):
    import pandas as pd

    rows = [
        Judgement("a", "s", "", "p", (1.0, 0.0), step_scores=((0.5, NAN), (0.25,)), reasons=("non_finite", None)),
        Judgement("b", "s", "", "q", (1.0, 0.0), scores=(NAN, 2.0), reasons=("truncated", None), lengths=(3, 4)),
    ]
    view = results.load_result(made_results.write(tmp_path, rows))
    read = pd.read_parquet(io.BytesIO(written(view, "parquet")))
    assert list(read["id"]) == ["a", "a", "b", "b"]
    assert list(read["reason"].fillna("")) == ["non_finite", "", "truncated", ""]
    assert list(read["step_scores"][1]) == [0.25]
    assert math.isnan(read["score"][2])
    assert read["score"][3] == 2.0


def test_a_judges_verdicts_are_its_share_of_wins(tmp_path):
    shown = [Verdict((0, 1), "A"), Verdict((1, 0), "tie")]
    rows = [
        Judgement("a", "s", "", "p", (1.0, 0.0), verdicts=tuple(shown)),
        Judgement("b", "s", "", "q", (1.0, 0.0), verdicts=(Verdict((0, 1), None, "unparsed"),)),
    ]
    view = results.load_result(made_results.write(tmp_path, rows))
    read = list(csv.DictReader(io.StringIO(written(view, "csv").decode())))
    assert [row["score"] for row in read] == ["0.75", "0.25", "", ""]
    assert read[0]["conversion"].startswith("verdicts converted to the share")


def test_json_is_the_whole_result(tmp_path):
    rows = made_results.pairs(missing=0.1)
    view = results.load_result(made_results.write(tmp_path, rows))
    (tmp_path / "whole.json").write_bytes(written(view, "json"))
    whole = strict_json.read(tmp_path / "whole.json")
    assert results.validate(whole["result"], "whole") == view.result
    back = [samples.to_judgement(samples.parse(samples.SampleRow, row, "row")) for row in whole["samples"]]
    assert samples.dump(back) == samples.dump(rows)


def test_the_command_writes_the_file_and_says_so(tmp_path):
    path = made_results.write(tmp_path, made_results.pairs())
    for to in ("csv", "json", "parquet"):
        got = rmeval("export", path, "--to", to, "-o", tmp_path / "out" / f"rows.{to}")
        assert (got.code, got.stdout) == (0, f"written: {tmp_path / 'out' / f'rows.{to}'}\n")
    got = rmeval("export", path, "--to", "cvs", "-o", tmp_path / "x")
    assert got.code == 2
    assert "Did you mean 'csv'?" in got.stderr
    assert all(name in got.stderr for name in FORMATS)


# --- RewardBench -----------------------------------------------------------------------------------------------------

KEPT = ("name", "subset", "value", "ci", "n", "n_missing")


def same_numbers(one, other):
    """Every number of two results, null baselines and diagnostics included."""
    first, second = ([tuple(m[key] for key in KEPT) for m in each["metrics"]] for each in (one, other))
    assert first == second
    assert len(first) > 3


@pytest.mark.parametrize("model", ["length", "-length", "random"])
def test_rewardbench_comes_back_to_the_same_numbers(tmp_path, model):
    rows = own_rows.pairs(tmp_path / "pairs.jsonl")
    shared = ("--suite", "pairs", "--data", rows, "--json")
    was = rmeval("run", model, *shared, "--out", tmp_path / "results").document
    [path] = (tmp_path / "results").rglob("*[0-9a-f].json")
    got = rmeval("export", path, "--to", "rewardbench", "-o", tmp_path / "out")
    assert got.code == 0, got.stderr
    assert "board does not know the subsets of pairs" in got.stderr
    [scores] = (tmp_path / "out/eval-set-scores").rglob("*.json")
    again = rmeval("import", "rewardbench", scores, *shared, "--out", tmp_path / "again").document
    assert again["model"]["name"] == model
    same_numbers(was, again)
    [board] = (tmp_path / "out/eval-set").rglob("*.json")
    held = json.loads(board.read_text())
    assert held == {
        **{m["subset"]: m["value"] for m in was["metrics"] if m["name"] == "accuracy" and m["subset"]},
        "model": model,
        "model_type": "baseline",
        "chat_template": "none",
    }


def test_rewardbench_accuracies_are_the_means_of_its_own_results_column(tmp_path):
    view = results.load_result(made_results.scored(tmp_path, made_results.pairs(ties=0.2)))
    files = export(view, "rewardbench", Told()).files
    scores, board = (
        json.loads(files[f"{folder}/acme/reward-small.json"]) for folder in ("eval-set-scores", "eval-set")
    )
    for subset in ("easy", "hard"):
        mine = [r for r, of in zip(scores["results"], scores["subset"], strict=True) if of == subset]
        assert board[subset] == sum(mine) / len(mine)
    assert set(scores) == {
        *("id", "subset", "scores_chosen", "scores_rejected", "results"),
        *("model", "model_type", "chat_template"),
    }
    assert scores["model_type"] == "Seq. Classifier"


def test_rewardbenchs_own_arithmetic_on_the_exported_subsets_gives_the_headline(tmp_path):
    """Upstream's `calculate_scores_per_section`, and the mean of the four sections without the prior sets."""
    card = load_suite("reward-bench").card
    rows = [
        {"id": i, "subset": subset, "prompt": f"{subset} {n}", "chosen": "x" * (n % 7), "rejected": "x" * (n % 5)}
        for i, (subset, n) in enumerate((name, n) for name, size in card.expected.items() for n in range(min(size, 12)))
    ]
    data = tmp_path / "filtered.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    shared = ("--suite", "reward-bench", "--data", data, "--json")
    was = rmeval("run", "length", *shared, "--out", tmp_path / "results").document
    [path] = (tmp_path / "results").rglob("*[0-9a-f].json")
    got = rmeval("export", path, "--to", "rewardbench", "-o", tmp_path / "out")
    assert "not of the whole suite" in got.stderr
    assert "left out" not in got.stderr
    board = json.loads((tmp_path / "out/eval-set/length.json").read_text())
    sections = [s for s in card.sections if s.name != "Prior Sets"]
    assert [s.name for s in sections] == ["Chat", "Chat Hard", "Safety", "Reasoning"]
    scores = [sum(board[k] * w for k, w in s.weights.items()) / sum(s.weights.values()) for s in sections]
    assert sum(scores) / 4 == pytest.approx(was["headline"]["value"], abs=1e-12)
    scored = tmp_path / "out/eval-set-scores/length.json"
    assert json.loads(scored.read_text())["id"][:2] == [0, 1]
    again = rmeval("import", "rewardbench", scored, *shared, "--out", tmp_path / "again").document
    same_numbers(was, again)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a/../../b", "/root/x", "CON", "org/.."])
@pytest.mark.fault("F52")
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    view = results.load_result(made_results.write(tmp_path, made_results.pairs(), model=name))
    for place in export(view, "rewardbench", Told()).files:
        path = tmp_path / "out" / place
        assert path.resolve().is_relative_to((tmp_path / "out" / place.partition("/")[0]).resolve())
        assert not {".", "..", ""} & set(place.removesuffix(".json").split("/"))


def test_rewardbench2_comes_back_to_the_same_numbers(tmp_path):
    rows = ROOT / "suites/reward-bench-2/sample.jsonl"
    shared = ("--suite", "reward-bench-2", "--data", rows, "--json")
    was = rmeval("run", "length", *shared, "--out", tmp_path / "results").document
    [path] = (tmp_path / "results").rglob("*[0-9a-f].json")
    got = rmeval("export", path, "--to", "rewardbench", "-o", tmp_path / "out")
    assert got.code == 0, got.stderr
    scores = tmp_path / "out/eval-set-scores/length.json"
    again = rmeval("import", "rewardbench2", scores, *shared, "--out", tmp_path / "again").document
    same_numbers(was, again)


def test_rewardbench_judges_and_what_is_missing(tmp_path):
    said = [("A", 1.0), ("B", 0.0), ("tie", 0.5), (None, 0.5)]
    rows = [
        Judgement(f"{i}", "s", "", f"{i}", (1.0, 0.0), verdicts=(Verdict((0, 1), v, None if v else "unparsed"),))
        for i, (v, _) in enumerate(said)
    ]
    view = results.load_result(made_results.write(tmp_path / "a", rows))
    held = json.loads(export(view, "rewardbench", Told()).files["eval-set-scores/acme/reward-small.json"])
    assert held["results"] == [credit for _, credit in said]
    assert held["scores_chosen"] == [None] * 4
    assert held["id"] == [0, 1, 2, 3]
    twice = Judgement("x", "s", "", "x", (1.0, 0.0), verdicts=(Verdict((0, 1), "A"), Verdict((1, 0), "A")))
    with pytest.raises(UsageError, match="2 readings of a judge.*judge.orders=single"):
        export(results.load_result(made_results.write(tmp_path / "b", [twice])), "rewardbench", Told())
    lost = Judgement("x", "s", "", "x", (1.0, 0.0), scores=(NAN, 1.0), reasons=("truncated", None))
    view = results.load_result(made_results.write(tmp_path / "c", [lost]))
    held = json.loads(export(view, "rewardbench", Told()).files["eval-set-scores/acme/reward-small.json"])
    assert (held["scores_chosen"], held["scores_rejected"], held["results"]) == ([None], [1.0], [None])


def test_rewardbench_refuses_other_rules_and_other_shapes(tmp_path):
    view = results.load_result(
        made_results.write(tmp_path / "a", made_results.pairs(), metric_options={"ties": "half"})
    )
    with pytest.raises(UsageError, match="ties=half"):
        export(view, "rewardbench", Told())
    turned = Judgement("x", "s", "", "x", (0.0, 1.0), scores=(1.0, 2.0))
    view = results.load_result(made_results.write(tmp_path / "b", [turned]))
    with pytest.raises(UsageError, match="'x' does not have its chosen response first"):
        export(view, "rewardbench", Told())
    steps = Judgement("x", "s", "", "x", (1.0, 0.0), step_scores=((0.5,), (0.5,)))
    view = results.load_result(made_results.write(tmp_path / "c", [steps]))
    with pytest.raises(UsageError, match="no score per response"):
        export(view, "rewardbench", Told())


# --- the hub ---------------------------------------------------------------------------------------------------------


def test_hf_is_what_the_hubs_own_library_reads(tmp_path):
    import yaml
    from huggingface_hub import parse_eval_result_entries

    view = on_hub(tmp_path)
    [entry] = parse_eval_result_entries(yaml.safe_load(written(view, "hf", task="overall")))
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("allenai/reward-bench", "overall", COMMIT)
    assert (entry.value, entry.date) == (0.75, "2026-11-21T12:00:00Z")
    assert "95 % interval 0.7000 to 0.8000" in entry.notes
    assert (entry.verify_token, entry.source_url) == (None, None)


def test_hf_keys_are_those_of_the_specification(tmp_path):
    import yaml

    [entry] = yaml.safe_load(written(on_hub(tmp_path), "hf"))
    assert set(entry) <= {"dataset", "value", "verifyToken", "date", "source", "notes"}
    assert set(entry["dataset"]) == {"id", "task_id", "revision"}
    assert isinstance(entry["date"], str)


def test_yaml_comes_back_as_it_was():
    import yaml
    from hypothesis import given, settings
    from hypothesis import strategies as st

    from rmeval.exports import hub

    letters = st.characters(exclude_categories=("Cs",))
    texts = st.text(letters) | st.sampled_from(
        ["yes", "null", "1e5", "- a", "a: b", "#", "\U0001f600", "\x85\u2028\ufeff", "'"]
    )
    values = texts | st.floats(allow_nan=False, allow_infinity=False) | st.integers()
    keys = st.sampled_from(["id", "value", "notes", "date"])
    tree = st.dictionaries(keys, values | st.dictionaries(keys, values, min_size=1), min_size=1)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(tree, min_size=1, max_size=3))
    def back(entries):
        assert yaml.safe_load(hub.yaml(entries)) == entries

    back()


def test_hf_and_eee_refuse_what_is_not_the_whole_suite(tmp_path):
    part = on_hub(tmp_path / "a", complete=False)
    none = on_hub(tmp_path / "b", metrics=(Metric("accuracy", None),))
    held = on_hub(tmp_path / "c", complete=False, withheld="2 scores are missing")
    for to in ("hf", "eee"):
        for view, said in ((part, "part of the suite"), (none, "undefined"), (held, "2 scores are missing")):
            with pytest.raises(UsageError, match=said):
                export(view, to, Told())


def test_hf_refuses_what_has_no_repository_or_no_data_set(tmp_path):
    local = on_hub(tmp_path / "a", model="my-folder")
    with pytest.raises(UsageError, match="no model on the hub"):
        export(local, "hf", Told())
    generated = on_hub(tmp_path / "b", suite_record=hub_suite("arithmetic", "generated:seed=0"))
    several = on_hub(tmp_path / "c", suite_record=hub_suite(source="hub:a/b@1,a/c@2"))
    for view in (generated, several):
        with pytest.raises(UsageError, match="not one data set on the hub"):
            export(view, "hf", Told())
    # rows from a file of the hub's layout: the data set is known, its commit is not
    import yaml

    view = on_hub(tmp_path / "d", suite_record=hub_suite(source="file:rows.jsonl"))
    [entry] = yaml.safe_load(written(view, "hf"))
    assert entry["dataset"] == {"id": "allenai/reward-bench", "task_id": "default"}


# --- Every Eval Ever -------------------------------------------------------------------------------------------------


def eee(view, **told):
    return json.loads(every_eval_ever(view, Told(**told), datetime(2026, 11, 22, tzinfo=UTC)).files[""])


def test_eee_says_who_what_and_how_sure(tmp_path):
    metrics = (
        Metric("accuracy", 0.75, None, (0.7, 0.8), 160, 0, note="a tie is a loss"),
        Metric("accuracy", 0.5, "easy", None, 80, 2),
        Metric("accuracy", None, "hard", None, 0, 0),
        Metric("accuracy[random]", 0.5, None),
    )
    record = eee(on_hub(tmp_path, metrics=metrics), by="Acme Labs", first_party=True)
    assert record["evaluation_id"] == "reward-bench/acme_reward-small/1795262400"
    assert datetime.fromtimestamp(1795262400, UTC) == made_results.at(12)
    assert record["source_metadata"]["source_organization_name"] == "Acme Labs"
    assert record["source_metadata"]["evaluator_relationship"] == "first_party"
    assert record["model_info"]["id"] == "acme/reward-small"
    whole, easy = record["evaluation_results"]
    assert (whole["evaluation_name"], easy["evaluation_name"]) == ("reward-bench", "reward-bench.easy")
    assert whole["score_details"]["uncertainty"]["confidence_interval"]["upper"] == 0.8
    assert easy["score_details"]["details"]["n_missing"] == "2"
    assert whole["source_data"]["hf_repo"] == "allenai/reward-bench"
    assert whole["source_data"]["additional_details"]["revision"] == COMMIT
    said = export(on_hub(tmp_path / "again"), "eee", Told()).notes
    assert "--by" in said[1]
    uuid4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.search(rf"data/reward-bench/acme/reward-small/{uuid4}\.json$", said[0])


def check(value, rules, where="record"):
    """What the schema (0.3.0) demands of an object: required keys, kinds, choices; further details are texts."""
    for key, rule in rules.items():
        optional, name = key.endswith("?"), key.removesuffix("?")
        assert optional or name in value, f"{where}.{name}"
        if name not in value:
            continue
        found = value[name]
        if isinstance(rule, dict):
            check(found, rule, f"{where}.{name}")
        elif isinstance(rule, (set, frozenset)):
            assert found in rule, f"{where}.{name}"
        elif rule == "texts":
            assert all(isinstance(one, str) for one in found.values()), f"{where}.{name}"
        else:
            assert isinstance(found, rule), f"{where}.{name}"
            assert not isinstance(found, bool) or rule is bool, f"{where}.{name}"


RECORD = {
    "schema_version": {"0.3.0"},
    "evaluation_id": str,
    "evaluation_timestamp?": str,
    "retrieved_timestamp": str,
    "source_metadata": {
        "source_type": {"documentation", "evaluation_run"},
        "source_organization_name": str,
        "evaluator_relationship": {"first_party", "third_party", "collaborative", "other"},
    },
    "eval_library": {"name": str, "version": str, "additional_details?": "texts"},
    "model_info": {
        "name": str,
        "id": str,
        "developer?": str,
        "inference_engine?": {"name?": str, "version?": str},
        "additional_details": "texts",
    },
    "evaluation_results": list,
}
DETAILS = {
    "deployment_type": {"self_deployed", "externally_managed", "unknown"},
    "model_availability": {"open_weights", "closed_weights", "unknown"},
}
RESULT = {
    "evaluation_name": str,
    "source_data": {"dataset_name": str, "source_type": {"url", "hf_dataset", "other"}, "additional_details?": "texts"},
    "metric_config": {
        "lower_is_better": bool,
        "score_type": {"continuous"},
        "min_score": (int, float, str),
        "max_score": (int, float, str),
        "additional_details?": "texts",
    },
    "score_details": {
        "score": (int, float),
        "details?": "texts",
        "uncertainty?": {"confidence_interval?": {"lower": float, "upper": float}, "num_samples?": int},
    },
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": "judge:gpt-x", "engine": None},
        {"suite_record": hub_suite("arithmetic", "generated:seed=0"), "metric_options": {"ties": "half"}},
        {"metrics": (Metric("loss", -3.5, None, (-4.0, -3.0), 9, 0, higher_is_better=False, unit="number"),)},
    ],
)
def test_eee_holds_what_the_schema_demands(tmp_path, changes):
    record = eee(on_hub(tmp_path, **changes))
    check(record, RECORD)
    check(record["model_info"]["additional_details"], DETAILS)
    known = {name.removesuffix("?") for name in RECORD}
    assert set(record) == known, "the schema allows no further keys on top"
    for one in record["evaluation_results"]:
        check(one, RESULT)
        low, high = (float(one["metric_config"][f"{end}_score"]) for end in ("min", "max"))  # "Infinity" is one too
        assert low <= one["score_details"]["score"] <= high
    assert record["source_metadata"]["evaluator_relationship"] == "other"


# --- terminals -------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F53")
def test_what_others_wrote_does_not_command_the_terminal(tmp_path):
    rows = [Judgement("x", "\x1b[2Jeasy", "", "x", (1.0, 0.0), scores=(1.0, 0.0))]
    shown = {"complete": False, "withheld": "\x1b]0;owned\x07 2 missing"}
    path = made_results.write(tmp_path, rows, **shown)
    got = rmeval("export", path, "--to", "rewardbench", "-o", tmp_path / "out")
    assert (got.code, "easy" in got.stderr) == (0, True)
    refused = rmeval("export", path, "--to", "eee", "-o", tmp_path / "x.json")
    assert (refused.code, "2 missing" in refused.stderr) == (2, True)
    for text in (got.stderr, got.stdout, refused.stderr):
        assert not {c for c in text if not c.isprintable()} - {"\n"}
