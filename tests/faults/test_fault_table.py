"""All 64 faults have a test, no mark names another, and the page says which they are."""

from __future__ import annotations

from command import ROOT
from faults.fault_list import FAULTS, GROUPS
from faults.fault_page import as_markdown, proofs, with_table


def test_every_fault_has_a_test_and_every_mark_a_fault():
    found = proofs()
    assert list(FAULTS) == [f"F{n}" for n in range(1, 65)]
    assert [f"F{n}" for numbers in GROUPS.values() for n in numbers] == list(FAULTS)
    assert found.keys() == FAULTS.keys()
    # what can be shown in every `make test-faults`
    assert all(any(not {"browser", "smollm2", "vllm"} & {*proof.also} for proof in of) for of in found.values())


def test_the_page_is_up_to_date():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    fresh = with_table(page, as_markdown(proofs()))
    assert fresh == page, "run: python tests/faults --write docs/reliability.md"
