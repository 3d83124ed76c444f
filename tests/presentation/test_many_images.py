"""What people see of many images and of mini-batches."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import gabordiag as gd
from gabordiag.presentation import registry
from gabordiag.presentation import registry as figures
from gabordiag.presentation.blocks import Listing, Paragraph
from gabordiag.presentation.page import to_fragment
from gabordiag.presentation.words import image_blocks
from gabordiag.results import View
from tests.objective.plain_images import SMALL
from tests.presentation.test_figures import restore


@pytest.fixture(scope="module")
def pictures(texture):
    return [texture(22, 20, seed=seed) for seed in range(6)]


@pytest.fixture(scope="module")
def sweep(pictures):
    return gd.sweep(gd.Experiment(images=pictures, loss="mse", **SMALL), points=61)


@pytest.fixture(scope="module")
def batches(pictures):
    experiment = gd.Experiment(images=pictures, loss="mse", **SMALL)
    return gd.optimize(experiment, lr=1e-3, steps=30, batch_size=2)


def labels(figure) -> str:
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    return "\n".join(t.get_text() for legend in legends if legend for t in legend.get_texts())


def test_single_images_are_drawn_behind_their_mean(sweep):
    figure = figures.landscape.sweep_figure(sweep)
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 61]
    mean = next(line for line in lines if line.get_label() == "mean over all images")
    single = [line for line in lines if line is not mean]
    np.testing.assert_allclose([line.get_ydata() for line in single], sweep.survey.losses)
    by_hand = sweep.survey.losses.mean(axis=0)
    np.testing.assert_allclose(mean.get_ydata(), by_hand, rtol=1e-9, atol=1e-9)
    assert all(line.get_zorder() < mean.get_zorder() for line in single)
    assert "single images (6)" in labels(figure)
    assert "The loss over theta, mean over 6 images: " in figure.texts[0].get_text()
    top = figure.axes[0].get_ylim()[1]
    assert ("exceed the window" in labels(figure)) == (sweep.survey.losses.max() > top)


def test_plot_shows_them_too(sweep):
    ax = sweep.plot()
    assert sum(len(line.get_xdata()) == 61 for line in ax.lines) == 7


def test_batch_losses_are_dots_and_the_line_is_over_all_images(batches):
    noisy = batches.runs[0].trajectory
    figure = figures.run_figures.optimize_figure(restore("optimize", batches.view()))
    lines = {line.get_linestyle(): line for line in figure.axes[0].lines[:1]}
    np.testing.assert_array_equal(lines["None"].get_ydata(), noisy.losses)
    drawn = [line.get_ydata() for line in figure.axes[0].lines]
    assert any(np.array_equal(y, noisy.full_losses) for y in drawn)
    assert "batches of 2" in labels(figure)
    assert "all images" in labels(figure)
    assert "loss of the step's batch" in labels(figure)


def test_the_words_are_made_from_json_alone(sweep, batches):
    for command, result in (("sweep", sweep), ("optimize", batches)):
        view = result.view()
        saved = View(json.loads(json.dumps(view.result)), view.data)
        assert registry.blocks_of(command, saved) == registry.blocks_of(command, view)
    told = to_fragment(registry.blocks_of("optimize", batches.view()), {}, "blocks.md")
    assert "What the batches change" in told
    assert "sgd, batches of 2" in told
    assert "sgd, all images" in told


@pytest.fixture
def blocks(sweep):
    """The blocks on a landscape over many images that are described in JSON."""
    parameter = replace(sweep.landscape.parameter, start=0.0)

    def made(**images):
        images = {"used": 8, "skipped": [], **images}
        return image_blocks(replace(sweep.landscape, parameter=parameter, images=images))

    return made


def near(certified: bool = True):
    return {"certified": certified}


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({"used": 1}, "The loss is the mean over 1 image, weighted equally."),
        ({}, "The loss is the mean over 8 images, weighted equally."),
        (
            {"skipped": [{"file": "a", "why": "is damaged"}]},
            "The loss is the mean over 8 images, weighted equally. 1 file could not be used "
            "and was skipped:",
        ),
        (
            {"surveyed": 8, "spurious": 1, "to_target": 7, "near_start": [near()] * 8},
            "Taken one by one, 1 of 8 images has a spurious minimum near the start: downhill "
            "from 0.00° its loss leads to a minimum that is not the target; of 7 it leads to the "
            "target.",
        ),
        (
            {"surveyed": 8, "spurious": 0, "to_target": 8, "near_start": [near()] * 8},
            "Taken one by one, none of 8 images has a spurious minimum near the start: downhill "
            "from 0.00° the loss of each leads to the target.",
        ),
        (
            {
                "used": 900,
                "surveyed": 200,
                "spurious": 120,
                "to_target": 80,
                "near_start": [near(), near(False)],
            },
            "Taken one by one, 120 of 200 images, an even sample of the 900, have a spurious "
            "minimum near the start: downhill from 0.00° their loss leads to a minimum that is not "
            "the target; of 80 it leads to the target. For 1 of them the list of minima is not "
            "proven complete.",
        ),
    ],
)
def test_sentences(blocks, images, expected):
    assert [b.text for b in blocks(**images) if isinstance(b, Paragraph)][-1] == expected


def test_long_lists_of_skipped_files_end(blocks):
    skipped = [{"file": f"{n}.png", "why": "is damaged"} for n in range(30)]
    (lines,) = [block.items for block in blocks(skipped=skipped) if isinstance(block, Listing)]
    assert len(lines) == 21
    assert lines[0] == "0.png is damaged"
    assert lines[-1] == "and 10 more, see result.json"


def test_a_landscape_of_one_image_says_nothing(sweep):
    assert image_blocks(replace(sweep.landscape, images=None)) == []
