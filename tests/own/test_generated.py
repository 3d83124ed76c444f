"""Of random custom objectives, right or with a planted fault, the verdict is right.

The bar: right on 98 of 100; no healthy one alarmed, and no failing one called healthy.
"""

from __future__ import annotations

from collections import Counter

import pytest

import gabordiag as gd
from tests.own.generated import MAKERS, generate

SAMPLE, WHOLE = len(MAKERS), 500


def confusion(seeds: range) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Returns how often each kind got each verdict, and what is wrong, in words."""
    table: Counter[tuple[str, str]] = Counter()
    mistakes = []
    for seed in seeds:
        case = generate(seed)
        found = gd.diagnose(case.make(), **case.options)
        table[case.kind, found.verdict] += 1
        if found.is_healthy != case.healthy:
            mistakes.append(f"ALARM {seed} {case.kind}: {found.verdict}, {found.headline}")
        elif found.verdict not in case.verdicts:
            mistakes.append(f"{seed} {case.kind}: {found.verdict}, {found.headline}")
    return table, mistakes


def test_every_kind_is_recognised() -> None:
    table, mistakes = confusion(range(SAMPLE))
    assert not mistakes, "\n".join(mistakes)
    assert sum(table.values()) == SAMPLE


@pytest.mark.slow
def test_of_five_hundred_at_most_ten_are_mistaken() -> None:
    table, mistakes = confusion(range(SAMPLE, SAMPLE + WHOLE))
    for (kind, verdict), count in sorted(table.items()):
        print(f"{kind:14} {verdict:20} {count}")
    assert len(mistakes) <= 0.02 * WHOLE, "\n".join(mistakes)
    assert not [text for text in mistakes if text.startswith("ALARM")], "\n".join(mistakes)
