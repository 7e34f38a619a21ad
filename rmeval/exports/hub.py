"""`.eval_results/<name>.yaml` of a model's repository on the Hugging Face hub: a list with the headline.

Source: `eval_results.yaml` and `docs/hub/eval-results.md` of huggingface/hub-docs at 242f4a1. Required there are
`dataset.id` (a data set that is registered as a benchmark), `dataset.task_id` (as its `eval.yaml` says) and `value`;
`dataset.revision`, `date` and `notes` are optional. The hub checks ids when the file is pushed; nothing is pushed here.

What this module does not know: which data sets are benchmarks, and what their tasks are called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeAlias

from rmeval.errors import UsageError
from rmeval.exports.exported import Exported, Told, dataset_of, refuse_unfinished
from rmeval.results import ResultView

Tree: TypeAlias = "str | int | float | dict[str, Tree]"


def eval_results(view: ResultView, told: Told) -> Exported:
    """One entry with the headline, as a fraction.

    Raises `UsageError` for a part of a suite, and where there is no repository to put it into or no data set to name.
    """
    result = view.result
    refuse_unfinished(result, "hf")
    model = result.model.name.removeprefix("judge:")
    if model.count("/") != 1:
        raise UsageError(
            f"--to hf: {result.model.name} is no model on the hub (org/name), whose repository it goes into"
        )
    dataset = dataset_of(result)
    if dataset is None:
        raise UsageError(f"--to hf: suite {result.suite.name} is not one data set on the hub, which the entry names")
    head = result.metrics[0]
    interval = f", 95 % interval {head.ci[0]:.4f} to {head.ci[1]:.4f}" if head.ci else ""
    options = "".join(f", {key}={value}" for key, value in result.metric_options.items())
    notes = (
        f"{head.name}{options} of {head.n} examples{interval}; model {result.model.revision or 'without revision'}, "
        f"suite {result.suite.name} version {result.suite.version}, rmeval {result.environment.rmeval}"
    )
    hub, commit = dataset
    entry: dict[str, Tree] = {
        "dataset": {"id": hub, "task_id": told.task, **({"revision": commit} if commit else {})},
        "value": float(result.headline.value or 0),
        "date": result.created,
        "notes": notes,
    }
    said = (
        f"put it into the model's repository as .eval_results/{result.suite.name}.yaml",
        f"not checked: whether {hub} is registered as a benchmark and has a task {told.task!r} (see its eval.yaml)",
    )
    return Exported({"": yaml([entry]).encode()}, said)


def yaml(entries: list[dict[str, Tree]]) -> str:
    r"""A list of mappings as YAML. Texts are quoted by JSON's rules, which are YAML's too.

    >>> print(yaml([{"value": 1e-05, "dataset": {"id": "yes"}}]), end="")
    - value: 1.0e-05
      dataset:
        id: "yes"
    """
    lines: list[str] = []
    for entry in entries:
        first, *rest = _lines(entry)
        lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return "".join(f"{line}\n" for line in lines)


def _lines(mapping: dict[str, Tree]) -> Iterator[str]:
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield f"{key}:"
            yield from (f"  {line}" for line in _lines(value))
        else:
            yield f"{key}: {_scalar(value)}"


def _scalar(value: str | float) -> str:
    if isinstance(value, str):
        # readers of YAML 1.1 want characters that cannot be printed escaped, and know no surrogate pairs
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
    number = repr(value)
    # YAML 1.1 takes 1e-05 for a text: a number has a point
    return number.replace("e", ".0e", 1) if "e" in number and "." not in number else number
