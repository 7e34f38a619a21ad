"""All parsers under fuzz."""

from __future__ import annotations

import fuzz_cards as cards
import fuzz_imports as imports
import fuzz_judges as judges
import fuzz_models as models
import fuzz_results as results
import fuzz_rows as rows
import fuzz_tables as tables
import fuzz_texts as texts
import fuzz_wire as wire
from fuzz_driving import Target

TARGETS: tuple[Target, ...] = (
    *models.TARGETS,
    *results.TARGETS,
    *tables.TARGETS,
    *texts.TARGETS,
    *imports.TARGETS,
    *cards.TARGETS,
    *rows.TARGETS,
    *wire.TARGETS,
    *judges.TARGETS,
)
