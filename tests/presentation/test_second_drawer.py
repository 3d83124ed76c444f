"""Figures from a second process are those of the first; without it nothing is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import gabordiag as gd
from gabordiag.presentation import second_drawer
from gabordiag.presentation.report import Wish, draw, make_files
from gabordiag.presentation.second_drawer import SecondDrawer
from gabordiag.results import View


@pytest.fixture(scope="module")
def view() -> View:
    image = np.random.default_rng(1).random((40, 40))
    experiment = gd.Experiment(image=image, kernel_size=9, wavelength=5.0, sigma=2.0)
    return gd.diagnose(experiment, lr=0.1, steps=30).view()


@pytest.mark.slow
def test_the_second_process_draws_the_same_bytes(view: View) -> None:
    second = SecondDrawer()
    second.ask("diagnose", view, ["run"], ("png",), "screen")
    made = second.answer()
    assert made == draw("diagnose", view, only=["run"])
    assert list(made) == ["run.png"]


def test_figures_come_in_order_and_all_of_them(view: View) -> None:
    alone = make_files("diagnose", view, {}, Wish())
    shared = make_files("diagnose", view, {}, Wish(), second=SecondDrawer())
    assert shared == alone
    assert list(shared) == list(alone)


@pytest.mark.parametrize("name", [pytest.param("false", marks=pytest.mark.slow), "no such program"])
def test_without_the_process_the_figures_are_drawn_here(
    view: View, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    alone = make_files("diagnose", view, {}, Wish())
    monkeypatch.setattr(second_drawer.sys, "executable", name)
    assert make_files("diagnose", view, {}, Wish(), second=SecondDrawer()) == alone
    assert sys.executable == name


def test_a_process_that_is_not_asked_ends() -> None:
    second = SecondDrawer()
    process = second._process
    assert process is not None
    second.close()
    assert process.poll() is not None
    assert second.answer() == {}
