"""The page of a plane through all weights, in a browser and as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from selenium.webdriver.common.action_chains import ActionChains
from torch import nn

import gabordiag as gd
from gabordiag.dynamics.network import NetworkPlane
from gabordiag.explorer import page
from gabordiag.explorer.page import page_files
from tests.explorer.chromium import Browser


@pytest.fixture(scope="module")
def plane() -> NetworkPlane:
    torch.manual_seed(0)
    x = torch.randn(20, 3)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    training = gd.Training(model, [(x, x.sum(1, keepdim=True))], nn.functional.mse_loss)
    return gd.sweep(training, plane="pca", points=(9, 7), lr=0.05, steps=30)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path / "profile")
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.browser
def test_a_place_says_its_loss(plane: NetworkPlane, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "plane.html").write_bytes(page_files("sweep", plane.view())["plane.html"])
    browser.open(tmp_path / "plane.html")
    # Nothing is loaded from elsewhere.
    assert browser.problems() == []
    shown = browser.run(
        "const models = [...Bokeh.index.roots[0].model.references()];"
        "const of = (name) => models.find((m) => m.type === 'ColumnDataSource' && m.data.has"
        "  ? m.data.has(name) : m.type === 'ColumnDataSource' && name in m.data);"
        "const get = (m, name) => m.data.get ? m.data.get(name) : m.data[name];"
        "const image = get(of('image'), 'image');"
        "return [[...(image[0] ?? image.array)], ...['a', 'b', 'path_loss', 'steps']"
        "  .map((name) => [...get(of('steps'), name)])];"
    )
    np.testing.assert_allclose(shown[0], plane.loss.T.ravel(), rtol=1e-12)
    np.testing.assert_allclose(np.transpose(shown[1:3]), plane.path, rtol=1e-12)
    np.testing.assert_allclose(shown[3], plane.path_loss, rtol=1e-12)
    assert shown[4] == plane.steps.tolist()
    element = browser.driver.find_element("id", "plot")
    ActionChains(browser.driver).move_to_element_with_offset(element, 60, 70).perform()
    read = (
        "const all = (root) => [...root.querySelectorAll('*')].flatMap((e) =>"
        "  e.shadowRoot ? [e.shadowRoot.textContent, ...all(e.shadowRoot)] : []);"
        "return all(document).join(' ');"
    )
    assert "loss:" in browser.run(read)


def test_the_page_is_of_planes_alone(plane: NetworkPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    view = plane.view()
    (text,) = page_files("sweep", view).values()
    assert b"default-src 'none'" in text
    assert page_files("basins", view) == {}
    assert page_files("sweep", gd.sweep(lambda v: v**2, range=(-1, 1), points=5).view()) == {}
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    assert page_files("sweep", view) == {}
