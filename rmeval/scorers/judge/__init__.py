"""Generative judges: language models that are asked which response is better, how good one is, or where it goes wrong.

    card        a protocol: what is asked, in which orders, how the answer is read
    follow      the scorer that follows a card, with what the command line lays over it
    prompts     protocol and view -> the text that is asked
    asking      one question to a model, its final segment, one further turn where the protocol has it
    pairwise, listwise, rating, critic, verifier        the scorers

What this module does not know: engines, labels, how verdicts are added up.
"""

from rmeval.scorers.judge.card import JudgeCard
from rmeval.scorers.judge.follow import judge_scorer

__all__ = ["JudgeCard", "judge_scorer"]
