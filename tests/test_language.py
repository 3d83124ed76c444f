"""Plain technical English: phrases that slow a reader down, and what to write instead."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_NOUNS = (
    "angle derivative filter function grid image kernel log loss maps? module number objective "
    "parameter picture range scan step"
).replace(" ", "|")

# Phrase -> (what it looks like, what to write instead).
PHRASES = {
    "one's own": (r"\bone's own\b", "a custom objective; your objective"),
    "for ever": (r"\bfor ever\b", "without end; over and over"),
    "is no grid": (
        rf"(?<!there )\b(is|are) no (an? )?({_NOUNS})\b",
        "'x' is not a valid grid; at least 2 starts are needed",
    ),
    "torch has not": (r"\bhas not(?=[,.;]| (many|a|the|any)\b)", "torch does not support"),
    "without.": (r"\bwithout\.(?=\s|$)", "Default: the parameter's own start."),
    "as far as they can": (r"\bas far as (they|it) can\b", "say how far"),
    "shall": (r"\bshall\b", "must; is to"),
    "told": (
        r"(?<!\.)\b(tell|tells|told|telling)\b(?! \w* ?apart)",
        "report; describe; say; distinguish",
    ),
    "wish": (r"\bwish(es|ed)?\b", "request; options"),
    "rests": (r"\brests\b|\b(come|comes|came) to rest\b", "converges; settles"),
    "holds a rate": (r"\bholds (up to|at most|a rate|no rate)\b", "stays stable up to"),
    "who comes down": (r"\bwho comes down\b", "say which run"),
    "The same ...": (r'"""The same\b', "a docstring that stands alone"),
}


@cache
def texts() -> dict[str, str]:
    """Returns every file's text by its path, in one line, without the marks of comments."""
    kinds = ("py", "js", "html", "md")
    paths = [p for kind in kinds for p in (ROOT / "gabordiag").rglob(f"*.{kind}")]
    paths += [ROOT / "README.md", *(ROOT / ".github").glob("*.md")]
    lines = {path: path.read_text(encoding="utf-8").splitlines() for path in paths}
    return {
        path.relative_to(ROOT).as_posix(): " ".join(
            " ".join(re.sub(r"^\s*(#|//)+", "", line) for line in lines[path]).split()
        )
        for path in paths
    }


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrase_is_avoided(phrase: str) -> None:
    pattern, instead = PHRASES[phrase]
    found = {
        name: text[max(0, match.start() - 40) : match.end() + 20]
        for name, text in texts().items()
        if (match := re.search(pattern, text, re.IGNORECASE))
    }
    assert not found, f"write instead: {instead}"
