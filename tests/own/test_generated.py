"""Of random custom objectives, right or with a planted fault, the verdict is right.

The bar: right on 98 of 100; no healthy one alarmed, and no failing one called healthy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

import gabordiag as gd
from tests.own.generated import MAKERS, generate

WHOLE = 500
# Some kinds of fault, and what is right.
SOME = (0, 1, 5, 16, 19, 108)


def confusion(seeds: Iterable[int]) -> tuple[Counter[tuple[str, str]], list[str]]:
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


@pytest.mark.slow
def test_some_kinds_are_recognised() -> None:
    _, mistakes = confusion(SOME)
    assert not mistakes, "\n".join(mistakes)


@pytest.mark.slow
def test_of_five_hundred_at_most_ten_are_mistaken() -> None:
    table, mistakes = confusion(range(WHOLE))
    assert len({kind for kind, _ in table}) >= len(set(MAKERS)) - 1
    for (kind, verdict), count in sorted(table.items()):
        print(f"{kind:14} {verdict:20} {count}")
    assert len(mistakes) <= 0.02 * WHOLE, "\n".join(mistakes)
    assert not [text for text in mistakes if text.startswith("ALARM")], "\n".join(mistakes)
