"""Reports: everything inside, nothing from elsewhere, no user text that becomes markup."""

from __future__ import annotations

import base64
import io
import re
import shlex
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.colors import to_rgb
from PIL import Image

from gabordiag.cli.main import run
from gabordiag.presentation import registry, report
from gabordiag.presentation.blocks import (
    Heading,
    Listing,
    Paragraph,
    Picture,
    Table,
    Verdict,
    caption,
)
from gabordiag.presentation.colors import OUTCOME_COLORS, POINT_STYLES, TARGET_BAND, TARGET_COLOR
from gabordiag.presentation.figures.run_paths import Runs
from gabordiag.presentation.figures.sheets import SHEETS, on_sheet
from gabordiag.presentation.page import fenced, to_fragment
from gabordiag.presentation.report import ReportOptions, command_line, make_files
from gabordiag.results import View
from gabordiag.runs.saved import load_run
from tests.presentation.test_figures import Valleys, descend, drawings_of, sgd, words_in

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</title><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "a | b *c* _d_ `e` [f](javascript:alert(1)) ![g](h.png) ~~i~~ &lt; # j",
    "- no list",
    "1. no list",
    "# no heading",
    "two\nlines\n\n# and a heading",
    "{{ 7 * 7 }}{% raw %}",
    "``` fence",
    "https://example.org/x.js",
)
VOID = {"meta", "img", "source", "br", "link"}


class Page(HTMLParser):
    """Parses strictly: every tag closed in its order; remembers what there is."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[tuple[str | None, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _report(told: list[Any], rows: tuple[tuple[str, str], ...], line: str) -> str:
    about = {"command": "diagnose", "settings": rows, "command_line": line}
    return to_fragment(told, {}, "report.html", **about)


def make(told: list[Any], settings: dict[str, str] | None = None) -> str:
    rows = tuple((settings or {}).items())
    return _report(told, rows, "gabordiag diagnose")


@pytest.fixture(scope="module")
def view() -> View:
    return descend(Valleys(), [sgd(6.0, 200), sgd(0.1, 200)], -1.0).view()


@pytest.fixture(scope="module")
def files(view: View) -> dict[str, bytes]:
    options = ReportOptions(("png", "svg"), animate=True, to_send=True)
    return make_files("optimize", view, {"lr": [6.0, 0.1]}, options)[0]


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_page_is_whole_and_needs_nothing_else(files: dict[str, bytes]) -> None:
    text = files["report.html"].decode("utf-8")
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    parsed = Page(text)
    for _, attributes in parsed.tags:
        for name in ("src", "srcset", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not parsed.all("script")
    assert not parsed.all("link")
    assert "prefers-color-scheme: dark" in text
    assert any(meta.get("name") == "viewport" for meta in parsed.all("meta"))


@pytest.mark.slow
def test_the_pictures_are_inside_in_the_order_of_the_text(files: dict[str, bytes]) -> None:
    parsed = Page(files["report.html"].decode("utf-8"))
    pictures = parsed.all("img")
    assert [picture["alt"] for picture in pictures] == [caption("animation"), caption("optimize")]
    kinds = []
    for attributes in [*pictures, *parsed.all("source")]:
        kind, content = str(attributes.get("src") or attributes.get("srcset")).split(";base64,")
        kinds.append(kind)
        Image.open(io.BytesIO(base64.b64decode(content, validate=True))).verify()
    assert kinds == ["data:image/gif", "data:image/png", "data:image/png"]


@pytest.mark.long
def test_colours_that_mean_something_stay(files: dict[str, bytes]) -> None:
    parsed = Page(files["report.html"].decode("utf-8"))
    content = base64.b64decode(str(parsed.all("img")[1]["src"]).split(",", 1)[1])
    before = np.asarray(Image.open(io.BytesIO(files["optimize.png"])).convert("RGB")).astype(int)
    after = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert len(content) < 0.6 * len(files["optimize.png"])
    for color in ("#ffffff", TARGET_COLOR, TARGET_BAND, POINT_STYLES["minimum"][1]):
        rgb = [round(255 * part) for part in to_rgb(color)]
        where = (before == rgb).all(axis=2)
        assert where.sum() > 20, color
        # Six bits a channel.
        assert np.abs(after[where] - rgb).max() <= 4, color


def test_a_phone_gets_the_narrow_figure(files: dict[str, bytes]) -> None:
    parsed = Page(files["report.html"].decode("utf-8"))
    (narrow,) = parsed.all("source")
    assert "max-width" in str(narrow["media"])
    content = base64.b64decode(str(narrow["srcset"]).split(",", 1)[1])
    with (
        Image.open(io.BytesIO(content)) as slim,
        Image.open(io.BytesIO(files["optimize.png"])) as w,
    ):
        assert slim.width < w.width


def test_every_word_of_the_blocks_is_on_the_page() -> None:
    told = [
        Verdict("Use --lr 0.01 or `gabordiag sweep`.", "wrong_basin", False),
        Heading("A heading"),
        Paragraph("A paragraph."),
        Listing(("one item", "another item")),
        Table(("outcome", "share"), (("erratic (period 3)", "12%"),), 0),
        Picture("missing"),
    ]
    parsed = Page(make(told, {"image": "hopper"}))
    for words in (
        "wrong basin", "Use --lr 0.01 or gabordiag sweep .", "A heading", "A paragraph.",
        "one item", "another item", "erratic (period 3)", "12%", "image", "hopper",
        "gabordiag diagnose --config config.toml",
    ):  # fmt: skip
        assert words in parsed.text
    assert not parsed.all("img")
    badges = [span for span in parsed.all("span") if span.get("class") == "badge"]
    assert len(badges) == 1
    assert OUTCOME_COLORS["erratic"] in str(badges[0]["style"])


@pytest.mark.parametrize("text", HOSTILE)
def test_user_text_stays_text_on_the_page(text: str) -> None:
    told = [
        Verdict(text, text, False),
        Heading(text),
        Paragraph(text),
        Listing((text,)),
        Table((text,), ((text,),), 0),
    ]
    hostile = Page(_report(told, ((text, text),), text))
    harmless = [
        Verdict("x", "x", False),
        Heading("x"),
        Paragraph("x"),
        Listing(("x",)),
        Table(("x",), (("x",),), 0),
    ]
    # Each word of the command line is a span of its own.
    plain = Page(_report(harmless, (("x", "x"),), " ".join("x" for _ in text.split(" "))))
    ours = [tag for tag, _ in hostile.tags if tag != "code"]
    assert ours == [tag for tag, _ in plain.tags if tag != "code"]
    for _, attributes in hostile.tags:
        assert not any(name.startswith("on") for name in attributes)
    assert " ".join(text.replace("`", "").split()) in hostile.text.replace("`", "")


# --- Markdown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_user_text_stays_text_in_markdown(text: str) -> None:
    told = [Verdict(text, "x", False), Heading(text), Paragraph(text), Listing((text,))]
    source = to_fragment([*told, Table((text, "b"), ((text, "c"),))], {}, "blocks.md")
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    inline = [token for token in tokens if token.type == "inline"]
    shown = [
        "".join(child.content for child in token.children or [] if child.type.startswith("text"))
        for token in inline
    ]
    expected = " ".join(text.split())
    assert shown == [expected] * 5 + ["b", expected, "c"]
    allowed = {"text", "text_special", "strong_open", "strong_close"}
    for token in inline:
        assert {child.type for child in token.children or []} <= allowed


def test_a_fence_is_longer_than_what_it_holds() -> None:
    (token,) = MarkdownIt("commonmark").parse(fenced("a ``` b\n````\nc"))
    assert token.type == "fence"
    assert token.content == "a ``` b\n````\nc\n"


def test_markdown_shows_the_pictures_that_there_are(files: dict[str, bytes]) -> None:
    text = files["report.md"].decode("utf-8")
    names = re.findall(r"^!\[[^\]]*\]\(([^)]*)\)$", text, re.MULTILINE)
    assert names == ["animation.gif", "optimize.png"]
    assert set(names) <= set(files)


@pytest.mark.long
def test_a_figure_without_a_place_comes_last(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = registry.KINDS["optimize"]

    def drawings(runs: Runs) -> registry.Drawings:
        return {
            "surface": partial(registry.run_figures.optimize_figure, runs),
            **kind.figures(runs),
        }

    monkeypatch.setitem(registry.KINDS, "optimize", replace(kind, figures=drawings))
    made, _ = make_files("optimize", view, {}, ReportOptions(size="slide"))
    assert re.findall(r"\]\((.*?)\)", made["report.md"].decode("utf-8")) == [
        "optimize.png",
        "surface.png",
    ]


def test_without_figures_there_is_a_report(view: View) -> None:
    made, _ = make_files("optimize", view, {}, ReportOptions(formats=()))
    assert set(made) == {"report.md", "report.html"}
    assert not Page(made["report.html"].decode("utf-8")).all("img")


# --- to repeat it ---------------------------------------------------------------------------------


def test_the_command_line_is_the_shells() -> None:
    line = command_line(
        "optimize",
        {"image": "a b'; rm -rf $HOME", "lr": [0.1, 0.2], "theta0": -0.7, "direct": True,
         "nesterov": False, "objective": "x.py:f"},
    )  # fmt: skip
    assert shlex.split(line) == [
        "gabordiag", "optimize", "--image=a b'; rm -rf $HOME", "--lr=0.1", "--lr=0.2",
        "--theta0=-0.7", "--direct", "--objective=x.py:f",
    ]  # fmt: skip
    assert shlex.split(command_line("explain", {"log": "my log.csv", "period": 3.0})) == [
        "gabordiag", "explain", "my log.csv", "--period=3.0",
    ]  # fmt: skip


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(2).integers(0, 256, (40, 44), dtype=np.uint8)
    name = "a <img src=x onerror=alert(1)> `b` *c* 'd'.png"
    Image.fromarray(pixels).save(tmp_path / name)
    return ["--image", name, "--loss", "mse", "--kernel-size=9", "--wavelength=5", "--sigma=2"]


CALLS = (
    ["sweep"],
    ["optimize", "--steps=30", "--lr=0.001", "--lr=0.01", "--start=-0.5", "--start=20deg"],
    ["diagnose", "--steps=40", "--momentum=0.5", "--nesterov"],
    ["basins", "--lr=1e-3:1:5", "--starts=-pi/2:pi/2:7", "--steps=60"],
    ["bifurcate", "--lr=1e-2:1:5", "--steps=300"],
)


@pytest.mark.each(5)
@pytest.mark.parametrize("call", [pytest.param(call, id=call[0]) for call in CALLS])
def test_the_reports_command_line_repeats_the_run(small: list[str], call: list[str]) -> None:
    options = ["--quiet", "--no-plots"]
    assert run([*call, *small, *options, "--out=one"]) == 0
    text = Path("one/report.md").read_text(encoding="utf-8")
    line = next(
        line for line in text.splitlines() if line.startswith("gabordiag") and "--image" in line
    )
    assert run([*shlex.split(line)[1:], *options, "--out=two"]) == 0
    first, second = (Path(f"{name}/config.toml").read_text("utf-8") for name in ("one", "two"))
    assert first == second
    assert load_run(Path("one")).document["result"] == load_run(Path("two")).document["result"]


LONG = ("diagnose", "basins", "bifurcate")


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [pytest.param(c, id=c[0], marks=[pytest.mark.slow] * (c[0] in LONG)) for c in CALLS],
)
def test_the_report_from_the_folder_is_the_runs(small: list[str], call: list[str]) -> None:
    assert run([*call, *small, "--quiet", "--out=one"]) == 0
    assert run(["report", "one", "--quiet", "--out=two"]) == 0
    for path in Path("two").iterdir():
        # What is sent is smaller, and has figures for phones.
        if path.name == "report.html":
            continue
        assert path.read_bytes() == (Path("one") / path.name).read_bytes(), path.name
    assert {"report.md", "report.html"} <= {path.name for path in Path("two").iterdir()}
    parsed, sent = (
        Page(Path(f"{n}/report.html").read_text(encoding="utf-8")) for n in ("one", "two")
    )
    assert parsed.text == sent.text
    assert [p["alt"] for p in parsed.all("img")] == [p["alt"] for p in sent.all("img")]
    assert len(sent.all("source")) == len(sent.all("img"))
    assert "a <img src=x onerror=alert(1)>" in parsed.text
    assert all("onerror" not in attributes for attributes in parsed.all("img"))


@pytest.mark.slow
def test_formats_and_sizes_of_figures(small: list[str]) -> None:
    assert run(["sweep", *small, "--quiet", "--out=one", "--figure-format=png,svg"]) == 0
    assert {"sweep.png", "sweep.svg"} <= {path.name for path in Path("one").iterdir()}
    again = ["report", "one", "--quiet", "--out=two", "--figure-format=svg", "--figure-size=slide"]
    assert run(again) == 0
    assert {path.name for path in Path("two").iterdir()} == {
        "sweep.svg",
        "report.md",
        "report.html",
    }
    assert "](sweep.svg)" in Path("two/report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "option",
    ["--figure-format=bmp", "--figure-format=png,", "--figure-size=none-such", "--panel=map"],
)
def test_unknown_formats_are_refused_before_anything_is_made(
    small: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", *small, "--out=one", option]) == 2
    said = capsys.readouterr().err
    assert f"{option.partition('=')[0]}: " in said
    assert "is unknown.\nUse one of " in said
    assert not Path("one").exists()


@pytest.mark.slow
def test_a_panel_that_only_the_result_can_refuse_loses_nothing(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["optimize", *small, "--quiet", "--lr=1e-3", "--steps=9", "--out=one"]
    assert run([*call, "--panel=plane-0"]) == 2
    said = capsys.readouterr().err
    assert "--panel: panel 'plane-0' is unknown.\nUse one of loss, value, landscape." in said
    assert {"result.json", "optimize.png"} <= {path.name for path in Path("one").iterdir()}
    assert run(["report", "one", "--quiet", "--out=two", "--panel=map"]) == 2
    assert not Path("two").exists()
    assert run(["report", "one", "--quiet", "--out=two", "--panel=landscape"]) == 0
    whole, alone = (Path(name, "optimize.png").read_bytes() for name in ("one", "two"))
    height = slice(20, 24)
    assert int.from_bytes(alone[height]) < 0.7 * int.from_bytes(whole[height])


@pytest.mark.slow
def test_an_animation_is_made_saved_and_made_again(small: list[str]) -> None:
    call = ["optimize", *small, "--quiet", "--no-plots", "--lr=0.5", "--steps=40", "--animate"]
    assert run([*call, "--out=one"]) == 0
    made = Path("one/animation.gif").read_bytes()
    assert made.startswith(b"GIF89a")
    assert run(["report", "one", "--quiet", "--out=two"]) == 0
    assert Path("two/animation.gif").read_bytes() == made
    assert "animation.gif" in load_run(Path("one")).document["files"]


# --- figures on other sheets ----------------------------------------------------------------------


def svg_words(content: bytes) -> str:
    root = ElementTree.fromstring(content)
    texts = root.iter("{http://www.w3.org/2000/svg}text")
    return " ".join(" ".join("".join(text.itertext()).split()) for text in texts)


Draw = Callable[[str, tuple[str, ...]], dict[str, bytes]]


@pytest.fixture(scope="module")
def draw(view: View) -> Draw:
    return lambda size, formats: report.draw(drawings_of("optimize", view), formats, size)


@pytest.mark.slow
def test_an_svg_holds_the_figures_words_as_text(view: View, draw: Draw) -> None:
    content = draw("screen", ("svg",))["optimize.svg"]
    assert draw("screen", ("svg",))["optimize.svg"] == content
    words = svg_words(content)
    drawing = drawings_of("optimize", view)["optimize"]
    for line in words_in(drawing()).splitlines():
        assert " ".join(line.split()) in words


INCHES = {"screen": 10.0, "column": 3.5, "slide": 13.333}


def test_every_size_is_measured() -> None:
    assert set(INCHES) == set(SHEETS)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "inches"), INCHES.items())
def test_every_size_has_its_inches(draw: Draw, size: str, inches: float) -> None:
    made = draw(size, ("png", "svg", "pdf"))
    with Image.open(io.BytesIO(made["optimize.png"])) as picture:
        assert picture.width / picture.info["dpi"][0] == pytest.approx(inches, rel=0.01)
        if size == "slide":
            assert picture.width / picture.height == pytest.approx(16 / 9, rel=0.01)
    root = ElementTree.fromstring(made["optimize.svg"])
    assert float(root.attrib["width"].removesuffix("pt")) / 72 == pytest.approx(inches, rel=0.01)
    pdf = made["optimize.pdf"]
    page_ = re.search(rb"/MediaBox \[ 0 0 ([0-9.]+) [0-9.]+ \]", pdf)
    assert page_ is not None
    assert float(page_[1]) / 72 == pytest.approx(inches, rel=0.01)
    # The drawing is scaled with its page: the first matrix of the page's content.
    parts = re.findall(rb"stream\r?\n(x.*?)endstream", pdf, re.DOTALL)
    content = b"\n".join(map(zlib.decompress, parts))
    matrix = re.search(rb"^([0-9.]+) 0 0 ([0-9.]+) 0 0 cm", content, re.MULTILINE)
    assert matrix is not None
    scale = SHEETS[size].scale
    assert (float(matrix[1]), float(matrix[2])) == pytest.approx((scale, scale), rel=1e-3)
    assert draw(size, ("pdf",))["optimize.pdf"] == pdf


@pytest.mark.slow
def test_a_report_with_pdfs_shows_pictures_and_links_the_files(view: View) -> None:
    made, _ = make_files("optimize", view, {}, ReportOptions(formats=("pdf",)))
    assert set(made) == {"optimize.pdf", "report.md", "report.html"}
    assert re.findall(r"(!?)\[[^]]*\]\((.*?)\)", made["report.md"].decode("utf-8")) == [
        ("", "optimize.pdf")
    ]
    (image,) = Page(made["report.html"].decode("utf-8")).all("img")
    assert image["src"].startswith("data:image/png;base64,")
    both, _ = make_files("optimize", view, {}, ReportOptions(formats=("pdf", "svg")))
    assert set(both) == {"optimize.pdf", "optimize.svg", "report.md", "report.html"}
    assert "![" in both["report.md"].decode("utf-8")


@pytest.mark.parametrize("size", [name for name, sheet in SHEETS.items() if sheet.width])
def test_nothing_is_cut_off_on_any_sheet(view: View, size: str) -> None:
    with on_sheet(size):
        figure = drawings_of("optimize", view)["optimize"]()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    extent = figure.get_tightbbox(renderer).bounds
    width, height = figure.get_size_inches()
    assert extent[0] >= -0.05
    assert extent[1] >= -0.05
    assert extent[0] + extent[2] <= width + 0.05
    assert extent[1] + extent[3] <= height + 0.05
    assert (SHEETS[size].width or 0) == pytest.approx(width)
