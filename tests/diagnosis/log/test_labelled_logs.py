"""The verdicts of many random logs whose labels come of algebra; see `labelled.py`."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from gabordiag.diagnosis.log.explain import explain
from tests.diagnosis.log.labelled import logs

# At least so many verdicts are right; a wrong one may neither alarm nor reassure.
SHARE = 0.99
IMPOSSIBLE = re.compile(r"-0(\.0*)?°|-0(\.0*)?\b(?![.\d])|\b(nan|inf)\b", re.IGNORECASE)
NO_ALARM = {"healthy", "equivalent_solution", "inconclusive"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("seed", "landscapes", "each"), [(0, 11, 5), pytest.param(1, 200, 11, marks=pytest.mark.slow)]
)
def test_verdicts_are_those_of_algebra(seed: int, landscapes: int, each: int) -> None:
    confusion: Counter[tuple[str, str, str]] = Counter()
    alarms = []
    for number, made in enumerate(logs(seed, landscapes, each)):
        found = explain(made.columns, **made.keywords)
        assert json.dumps(found.to_dict(), allow_nan=False)
        texts = " ".join((found.headline, *(finding.explanation for finding in found.findings)))
        if made.kind != "not_finite":
            assert not IMPOSSIBLE.search(texts), texts
        confusion[made.kind, "/".join(sorted(made.right)), found.verdict] += 1
        if found.verdict not in made.right:
            where = f"log {number}, {made.kind} of {made.landscape}: {found.verdict}"
            if made.right <= NO_ALARM or found.verdict in NO_ALARM:
                alarms.append(where)
    wrong = {key: count for key, count in confusion.items() if key[2] not in key[1].split("/")}
    assert not alarms, alarms
    assert sum(wrong.values()) <= (1 - SHARE) * confusion.total(), wrong
