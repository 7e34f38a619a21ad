"""How the official scripts of judge benchmarks read a verdict: each rule named after what it does or whose it is.

They repeat the official precedence, and so the official mistakes: "not [[B]] ... final: [[B]], unlike [[A]]" is A to
`first_by_precedence`. Only where a script makes something of a text that it could not read (a tie, a half, a crash) is
this `unparsed` here: what that is worth is for a metric to say.

What this module does not know: final segments, refusals, how verdicts are added up.
"""

from __future__ import annotations

import json
import math
import re

from rmeval.scorers.judge.labels import UNPARSED, Labels, Parsed, Parser, bare


def first_by_precedence(text: str, labels: Labels) -> Parsed:
    """The first label, in the order of the card, that stands anywhere in the text.

    lm-sys/FastChat@0e6d3e4 fastchat/llm_judge/common.py run_judge_pair, allenai/reward-bench@05a9005
    rewardbench/generative.py and generative_v2.py process_judgement (there A before B before C before D).

    >>> first_by_precedence("Not [[B]]. Final: [[B]], unlike [[A]]", {"[[A]]": "A", "[[B]]": "B"}).verdict
    'A'
    """
    found = _present(text, labels)
    return Parsed(found[0]) if found else UNPARSED


def rm_r1(text: str, labels: Labels) -> Parsed:
    """The one label that stands in the text; where several do, none ("prevent hacking").

    RM-R1-UIUC/RM-R1@d4c2542 eval/reward-bench/rewardbench/generative.py process_judgement.
    """
    found = _present(text, labels)
    return Parsed(found[0]) if len(found) == 1 else UNPARSED


def _present(text: str, labels: Labels) -> list[str]:
    """The verdicts of the labels in the text, character by character, in the order of the card."""
    return [verdict for label, verdict in labels.items() if _written(label) in text]


def _written(label: str) -> str:
    return label if "[" in label or " " in label else f"[[{label}]]"


_LABEL = re.compile(r"\[\[([AB<>=]+)\]\]")
_LABEL_IN_ONE = re.compile(r"\[([AB<>=]+)\]")


def last(text: str, labels: Labels) -> Parsed:
    """The last label in double brackets, else the last in single ones, in any case.

    lmarena/arena-hard-auto@196f6b8 gen_judgment.py get_score with the patterns of config/arena-hard-v2.0.yaml. What the
    patterns find and no label is (`[[A]]`, `[[A>>>B]]`) stops the official report with a KeyError; here it is unparsed.

    >>> last("[[A>B]]? No: [[b>>a]]", {"[[A>B]]": "A>B", "[[B>>A]]": "B>>A"}).verdict
    'B>>A'
    """
    for pattern in (_LABEL, _LABEL_IN_ONE):
        found = pattern.findall(text.upper())
        if found:
            return _meant(found[-1], labels)
    return UNPARSED


def judgebench(text: str, labels: Labels) -> Parsed:
    """The label in double brackets that the text holds; none where it holds two that differ, if only in strength.

    ScalerLab/JudgeBench@e2c52c2 utils/judges.py ArenaHard.get_score.
    """
    found = set(_LABEL.findall(text))
    return _meant(found.pop(), labels) if len(found) == 1 else UNPARSED


def _meant(label: str, labels: Labels) -> Parsed:
    verdict = {bare(one): verdict for one, verdict in labels.items()}.get(bare(label))
    return UNPARSED if verdict is None else Parsed(verdict)


_RESULT = re.compile(
    r"(?:\[RESULT\]|\[RESULT:\s*|\[Response\s+|\[Result\](?:\s+Response)?|\[Result:\s*|(?:^|\n)Result:?\s*)"
    r"\s*(A|B)\]?\s*$",
    re.IGNORECASE | re.MULTILINE,
)


def result_tag(text: str, labels: Labels) -> Parsed:
    """`[RESULT] A` and its like at the end of a line.

    prometheus-eval/prometheus-eval@dcfb442 libs/prometheus-eval/prometheus_eval/parser.py _parse_output_relative; the
    pattern is meant for the end of the text, and being compiled for several lines takes the first line that ends so.

    >>> result_tag("Feedback: the second is vague. [RESULT] A", {"A": "A", "B": "B"}).verdict
    'A'
    """
    found = _RESULT.search(text)
    return _meant(found[1].upper(), labels) if found else UNPARSED


def llmbar(text: str, labels: Labels) -> Parsed:
    """The first label, in the order of the card, that opens a line.

    princeton-nlp/LLMBar@900616b LLMEvaluator/evaluators/config/GPT-4/Vanilla.json and all but the CoT evaluators.

    >>> llmbar("Output (b)", {"Output (a)": "A", "Output (b)": "B"}).verdict
    'B'
    """
    text = text.strip()
    found = [verdict for label, verdict in labels.items() if re.search(rf"(?:^|\n) ?{re.escape(label)}", text)]
    return Parsed(found[0]) if found else UNPARSED


def llmbar_cot(text: str, labels: Labels) -> Parsed:
    """The first label, in the order of the card, that "... is better" and one more character on the line follow.

    princeton-nlp/LLMBar@900616b LLMEvaluator/evaluators/config/GPT-4/CoT.json, Swap_CoT.json, Swap.json (there the
    first question).
    """
    text = text.strip()
    found = [verdict for label, verdict in labels.items() if re.search(rf"{re.escape(label)} is better.", text)]
    return Parsed(found[0]) if found else UNPARSED


def exact(text: str, labels: Labels) -> Parsed:
    """The text is a label and nothing else, blanks around it aside; case counts.

    AlpacaEval's `m` and `M` as text; ScalerLab/JudgeBench@e2c52c2 utils/judges.py Vanilla (which raises otherwise).
    """
    verdict = labels.get(text.strip())
    return UNPARSED if verdict is None else Parsed(verdict)


_CHOICE = re.compile(r'"choice"\s*:\s*"([^"]*?)"')


def choice_json(text: str, labels: Labels) -> Parsed:
    """The key `choice` of the text as JSON, the last where it stands there twice; else the first `"choice": "..."`.

    allenai/WildBench@d6b8dca src/eval.py parse_result, extract_values_from_json.

    >>> choice_json('{"reason": "clear", "choice": "B++"}', {"A++": "A>>B", "B++": "B>>A"}).verdict
    'B>>A'
    """
    try:
        whole = json.loads(text.strip())
    except (ValueError, RecursionError):
        match = _CHOICE.search(text)
        choice = match[1] if match else None
    else:
        choice = whole.get("choice") if isinstance(whole, dict) else None
    verdict = labels.get(choice) if isinstance(choice, str) else None
    return UNPARSED if verdict is None else Parsed(verdict)


def pandalm(text: str, labels: Labels) -> Parsed:
    r"""The first line is a label and nothing else; `Tie` in any case.

    WeOpenML/PandaLM@3871806 pandalm/utils/pandalm_inference.py parse_pandalm_response, where every other text is a tie.

    >>> pandalm("2\n\n### Reason: the first invents facts", {"1": "A", "2": "B", "tie": "tie"}).verdict
    'B'
    """
    line = text.strip().partition("\n")[0]
    verdict = labels.get(line) or labels.get(line.lower())
    return UNPARSED if verdict is None else Parsed(verdict)


_DECISION = "final decision is "


def autoj(text: str, labels: Labels) -> Parsed:
    """What follows the last "final decision is ", in any case.

    GAIR-NLP/auto-j@2ae17a3 codes/usage/example.py extract_pariwise_result.

    >>> autoj("So, the final decision is Response 2.", {"response 1": "A", "response 2": "B", "tie": "tie"}).verdict
    'B'
    """
    text = text.strip()
    place = text.rfind(_DECISION)
    rest = text[place + len(_DECISION) :].strip().lower() if place >= 0 else ""
    found = [verdict for label, verdict in labels.items() if rest.startswith(label.lower())]
    return Parsed(found[0]) if found else UNPARSED


def first_line_scores(text: str, labels: Labels) -> Parsed:
    r"""Two numbers and nothing else on the first line, blank or comma between them: the higher wins, equal ones tie.

    baaivision/JudgeLM@00c4516 judgelm/llm_judge/common.py parse_score, translate_score_to_win_list with T = 0, where a
    text that cannot be read has -1 for both, and so is a draw.

    >>> first_line_scores("8 6.5\nAssistant 1 is more precise.", {"A": "A", "B": "B", "tie": "tie"}).verdict
    'A'
    """
    parts = text.partition("\n")[0].replace(",", " ").split(" ")
    return _compared(parts, labels, 0.0) if len(parts) == 2 else UNPARSED


_TWO_SCORES = re.compile(r"\[\[(\d+\.?\d*),\s?(\d+\.?\d*)\]\]")
_TWO_SCORES_IN_ONE = re.compile(r"\[(\d+\.?\d*),\s?(\d+\.?\d*)\]")


def pair_scores(text: str, labels: Labels) -> Parsed:
    """The first `[[7, 9]]`, else the first `[7, 9]`: the higher wins, a tie where they are 0.1 apart or less.

    lm-sys/FastChat@0e6d3e4 fastchat/llm_judge/common.py run_judge_pair with `[[rating_a,rating_b]]`, TIE_DELTA.
    """
    found = _TWO_SCORES.search(text) or _TWO_SCORES_IN_ONE.search(text)
    return _compared(found.groups(), labels, 0.1) if found else UNPARSED


def _compared(scores: tuple[str, ...] | list[str], labels: Labels, delta: float) -> Parsed:
    try:
        first, second = map(float, scores)
    except ValueError:
        return UNPARSED
    if not (math.isfinite(first) and math.isfinite(second)):
        return UNPARSED
    verdict = "tie" if abs(first - second) <= delta else "A" if first > second else "B"
    return Parsed(verdict) if verdict in labels.values() else UNPARSED


_OPENING = re.compile(r"Overall Judgment|Therefore", re.IGNORECASE)
_OVERALL = re.compile(
    r"(?:Overall Judgment|Therefore).*Answer\s*(\d+)\s*is\s*(?:the\s*)?(?:slightly\s*)?better", re.IGNORECASE
)


def vl_rewardbench(text: str, labels: Labels) -> Parsed:
    """The last "Answer 1 is better" after the first "Overall Judgment" or "Therefore", line breaks and stars taken out.

    vl-rewardbench/VL_RewardBench@e492d65 inference.py process_item, cal.py@7918386.

    >>> vl_rewardbench("**Overall Judgment:** Answer 2 is slightly better.", {"Answer 1": "A", "Answer 2": "B"}).verdict
    'B'
    """
    text = text.replace("\n", "").replace("*", "")
    opening = _OPENING.search(text)  # what follows a later one follows the first
    found = _OVERALL.match(text, opening.start()) if opening else None
    verdict = labels.get(f"Answer {found[1].lstrip('0')}") if found else None
    return UNPARSED if verdict is None else Parsed(verdict)


_BOXED = re.compile(r"\\boxed\{([^}]*)\}")


def processbench(text: str, labels: Labels) -> Parsed:
    r"""The last `\boxed{...}`, as a whole number: the first wrong paragraph, from 0, or -1. `labels` name the steps.

    QwenLM/ProcessBench@e802463 code/run_eval.py extract_answer. A number of no step is a wrong prediction there.

    >>> processbench(r"Paragraph 2 divides by \boxed{0}. So \boxed{ 2 }", {"-1": "-1", "0": "0", "2": "2"}).verdict
    '2'
    """
    found = _BOXED.findall(text[: text.rfind("}") + 1])  # without what is never closed, which takes long to find out
    try:
        number = str(int(found[-1].strip())) if found else ""
    except ValueError:
        return UNPARSED
    return Parsed(labels[number]) if number in labels else UNPARSED


OFFICIAL: dict[str, Parser] = {
    "first_by_precedence": first_by_precedence,
    "last": last,
    "judgebench": judgebench,
    "rm_r1": rm_r1,
    "result_tag": result_tag,
    "llmbar": llmbar,
    "llmbar_cot": llmbar_cot,
    "exact": exact,
    "choice_json": choice_json,
    "pandalm": pandalm,
    "autoj": autoj,
    "first_line_scores": first_line_scores,
    "pair_scores": pair_scores,
    "processbench": processbench,
    "vl_rewardbench": vl_rewardbench,
}
"""By the name that a protocol card gives."""
