"""Edits that leave the better response the better one, and what they do to a scorer: drops, and an attack.

What this package does not know: the command line.
"""

from rmeval.probes.robustness.attack import Attack, attack
from rmeval.probes.robustness.drop import Drop, GroupDrop, drops, group_drops
from rmeval.probes.robustness.scoring import Found, probe_robustness
from rmeval.probes.robustness.transformations import TRANSFORMATIONS, Transformation, chosen, transform

__all__ = [
    "TRANSFORMATIONS",
    "Attack",
    "Drop",
    "Found",
    "GroupDrop",
    "Transformation",
    "attack",
    "chosen",
    "drops",
    "group_drops",
    "probe_robustness",
    "transform",
]
