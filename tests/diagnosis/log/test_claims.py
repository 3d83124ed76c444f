"""What a verdict says of a log is true of it: logs made by a formula or a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

import gabordiag as gd

Columns = dict[str, np.ndarray]
T = np.arange(400)
NOISE = np.random.default_rng(0).standard_normal(400)


def table(rows: list[tuple[float, ...]], *names: str) -> Columns:
    return dict(zip(names, np.array(rows).T, strict=True))


def only(columns: Columns, *names: str) -> Columns:
    return {name: columns[name] for name in names}


class TestWhatWasGained:
    # Down to 0.1 within 250 steps, of which the first loss says nothing; then up for good.
    @pytest.mark.parametrize(
        ("first", "after"), [(2.2, np.full(150, 1.1)), (200.0, np.linspace(0.1, 5, 150))]
    )
    def test_and_lost_again_is_not_the_lowest(self, first: float, after: np.ndarray) -> None:
        fall = 0.1 + first * np.exp(-T[:250] / 30)
        losses = np.concatenate([fall, after]) + 0.02 * NOISE
        found = gd.explain({"step": T, "loss": losses})
        assert found.verdict == "inconclusive"
        row = int(np.argmin(losses))
        assert f"{losses[row]:.3g} at step {row}" in found.headline
        assert f"ended at {losses[-1]:.3g}" in found.headline

    def test_and_kept_but_for_noise_is(self) -> None:
        losses = 0.1 + 2.2 * np.exp(-T / 30) + 0.02 * NOISE
        assert gd.explain({"step": T, "loss": losses}).verdict == "healthy"
