"""An aggregate record of Every Eval Ever: the headline with its sections and subsets, each with its interval.

Source: `every_eval_ever/schemas/eval.schema.json` of evaleval/every_eval_ever, version 0.3.0 (commit 805ef1e; names and
meaning of fields as in its conversion guide at 6a276be). Instance-level records hold prompts and responses, which a
result does not; the records of samples stay in our own file, whose digest is told.

What this module does not know: whether a model's weights are open, and what its registry calls it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from rmeval.exports.exported import Exported, Told, dataset_of, refuse_unfinished
from rmeval.records import MetricRecord, Result
from rmeval.results import ResultView, path_part

SCHEMA_VERSION = "0.3.0"
CONFIDENCE = 0.95
"""Of all intervals of a result."""
_LOCAL = ("transformers", "vllm")
"""Engines of our own, which run weights on the machine of whoever evaluates."""


def every_eval_ever(view: ResultView, told: Told, now: datetime | None = None) -> Exported:
    """The record of a complete result; `now` is when the record is made. Raises `UsageError` for a part of a suite."""
    result = view.result
    refuse_unfinished(result, "eee")
    # like upstream's own records: a name, the model, when it was evaluated; a rerun has an id of its own
    started = datetime.strptime(result.created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    model = result.model.name.removeprefix("judge:")
    evaluation = f"{result.suite.name}/{model.replace('/', '_')}/{started:.0f}"
    # diagnostics and null baselines say nothing about how good the model is: they stay in the result
    metrics = [m for m in result.metrics if m.name == result.headline.name and m.value is not None]
    record = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation,
        "evaluation_timestamp": f"{started:.0f}",
        "retrieved_timestamp": f"{(now or datetime.now(UTC)).timestamp():.0f}",
        "source_metadata": _source(told),
        "eval_library": {
            "name": "rmeval",
            "version": result.environment.rmeval,
            "additional_details": _texts({"git": result.environment.git, "result_id": result.id}),
        },
        "model_info": _model(result, model),
        "evaluation_results": [_evaluated(result, metric, evaluation) for metric in metrics],
    }
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    developer, _, name = model.rpartition("/")
    place = f"data/{result.suite.name}/{path_part(developer or 'unknown')}/{path_part(name)}/{_file(result)}"
    said = [f"its place in the data store: {place}"]
    if not told.by:
        said.append("it does not say who evaluated; --by ORGANISATION does")
    return Exported({"": text.encode()}, tuple(said))


def _source(told: Told) -> dict[str, str]:
    relationship = "first_party" if told.first_party else "third_party" if told.by else "other"
    return {
        "source_name": "rmeval",
        "source_type": "evaluation_run",
        "source_organization_name": told.by or "unknown",
        "evaluator_relationship": relationship,
    }


def _model(result: Result, model: str) -> dict[str, Any]:
    held, engine = result.model, result.engine
    local = engine is not None and engine.name in _LOCAL
    found: dict[str, Any] = {
        "name": held.name,
        "id": model,
        "additional_details": {
            "deployment_type": "self_deployed" if local else "unknown",
            "model_availability": "unknown",
            **_texts({"kind": held.kind, "revision": held.revision, "scorer": result.scorer.model_dump(mode="json")}),
        },
    }
    if model.count("/") == 1:
        found["developer"] = model.partition("/")[0]
    if engine is not None and local:
        version = result.environment.packages.get(engine.name, "unknown")
        found["inference_engine"] = {"name": engine.name, "version": version}
        found["additional_details"] |= _texts({"engine": engine.model_dump(mode="json")})
    return found


def _evaluated(result: Result, metric: MetricRecord, evaluation: str) -> dict[str, Any]:
    suite, data = result.suite, result.suite.data
    dataset = dataset_of(result)
    hub = {"source_type": "hf_dataset", "hf_repo": dataset[0], "samples_number": suite.examples} if dataset else None
    # a fraction beyond its bounds is no fraction in the sense of the schema, such as a score of at most 1.01
    fraction = metric.unit == "fraction" and 0 <= (metric.value or 0) <= 1
    shared = metric.name == "accuracy"
    uncertainty: dict[str, Any] = {"num_samples": metric.n}
    if metric.ci is not None:
        uncertainty["confidence_interval"] = {
            "lower": metric.ci[0],
            "upper": metric.ci[1],
            "confidence_level": CONFIDENCE,
            "method": "clustered by prompt",
        }
    return {
        "evaluation_result_id": "#".join(filter(None, (evaluation, metric.name, metric.subset))),
        "evaluation_name": ".".join(filter(None, (suite.name, metric.subset))),
        "source_data": {
            "dataset_name": suite.name,
            **(hub or {"source_type": "other"}),
            "additional_details": _texts(
                {
                    "suite_version": suite.version,
                    "source": data.source,
                    "revision": data.revision,
                    "sha256": data.sha256,
                    "labels_sha256": data.labels_sha256,
                }
            ),
        },
        "metric_config": {
            "evaluation_description": metric.note or metric.name,
            "metric_id": metric.name if shared else f"rmeval.{metric.name}",
            "metric_name": metric.name,
            **({"metric_kind": "accuracy"} if shared else {}),
            "lower_is_better": not metric.higher_is_better,
            "score_type": "continuous",
            # the schema's own way to write an open end
            "min_score": 0.0 if fraction else "-Infinity",
            "max_score": 1.0 if fraction else "Infinity",
            **({"metric_unit": "proportion"} if fraction else {}),
            **({"additional_details": _texts(dict(result.metric_options))} if result.metric_options else {}),
        },
        "score_details": {
            "score": metric.value,
            "details": _texts({"n_missing": metric.n_missing, "samples_sha256": result.samples.sha256}),
            "uncertainty": uncertainty,
        },
    }


def _texts(said: dict[str, Any]) -> dict[str, str]:
    """Further details are texts in this schema; what is not known is left out."""
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items() if value is not None
    }


def _file(result: Result) -> str:
    """The store names files by a UUID of version 4; one and the same result keeps its own."""
    whole = hashlib.sha256(f"{result.id}|{result.created}|{result.samples.sha256}".encode()).digest()
    return f"{uuid.UUID(bytes=whole[:16], version=4)}.json"
