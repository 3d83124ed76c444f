"""Generated command lines keep what the program promises of every call (`fuzz.py`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import hostile
from tests.cli.fuzz import (
    QUICK,
    SMALL,
    Call,
    check_call,
    check_calls,
    command_options,
    make_call,
)

# Calls that once broke a promise, word by word, because numbers mean other calls when there are
# more options to choose from.
FOUND = [
    # A thousand brackets in a configuration: RecursionError out of the parser.
    ["check", "--config", "deep.toml"],
    ["explain", "mixed.csv", "--config", "deep.toml", "--json"],
    # A log of one row has no difference.
    ["explain", "one-row.csv", "--json"],
    ["explain", "all-nan.csv"],
    # A period of zero divides.
    ["explain", "markup.csv", "--period", "0", "--json"],
    ["explain", "good.csv", "--period", "1e-300"],
    ["explain", "good.csv", "--period", "-1"],
    # A log without line ends is read into memory whole.
    ["explain", "long-line.csv"],
    # Responses whose squares overflow, or vanish: no eigenvalues.
    ["optimize", *SMALL, "--target-noise", "1e308"],
    ["sweep", *SMALL, "--pixel-scale", "1e308", "--json"],
    ["basins", *SMALL, "--pixel-scale", "1e300", "--target-noise", "1"],
    ["sweep", *SMALL, "--image", "largest.npy"],
    ["sweep", *SMALL, "--image", "subnormal.npy"],
    # Filters that no grid can hold.
    ["optimize", *SMALL, "--padding", "circular", "--wavelength", "1e-320"],
    ["bifurcate", *SMALL, "--sigma", "1e-320", "--gamma", "1e-320", "--kernel-size", "7"],
    ["diagnose", *SMALL, "--steps", "20", "--psi", "1e308deg", "--json"],
    # Rows of a log that hold no value.
    ["diagnose", *SMALL, "--steps", "20", "--from-log", "script.csv", "--json"],
    # A run folder whose data are gone.
    ["report", "made/no-data", "--quiet"],
    # --start came twice to an objective of one's own.
    ["optimize", "--objective", "own.py:good", "--range", "0:1", "--start", "0.7", "--steps", "3"],
    # What the user's code prints came before the JSON.
    ["optimize", "--objective", "own.py:chatty", "--range", "0:1", "--steps", "3", "--json"],
    # A path that the system refuses to look at.
    ["report", "x" * 300, "--quiet"],
    ["sweep", *SMALL, "--over", "theta:0:1:99999999999"],
    ["basins", *SMALL, "--lr", "1e-3:1:99999999999"],
    ["optimize", *SMALL, "--steps", "9" * 400],
    # Losses near the largest double: their noise was measured by squares.
    ["diagnose", "--objective", "own.py:huge", "--steps", "20", "--json"],
    # A loss that does not depend on its parameter: no gradient to be relative to.
    ["bifurcate", "--objective", "own.py:constant", "--lr", "1e-2:1:3", "--steps", "200"],
    ["basins", "--objective", "own.py:text", "--lr", "1e-2:1:3", "--starts", "-1:1:3"],
    # Ends whose difference is no double; rates whose axis is none.
    ["basins", *SMALL, "--lr", "1e-2:1:3", "--starts", "-1e308:1e308:3"],
    ["bifurcate", *SMALL, "--lr", "1e-300:1e300:3", "--steps", "200"],
    # A target beside a log whose range is infinite.
    ["explain", "inf.csv", "--target", "1e300", "--json"],
    # A rate whose product with a curvature overflows.
    ["optimize", *SMALL, "--lr", "1e308", "--schedule", "step", "--psi", "1", "--steps", "20"],
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        hostile.make(folder)
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.mark.long
@pytest.mark.each(7)
@pytest.mark.parametrize("arguments", FOUND, ids=lambda arguments: " ".join(arguments)[:60])
def test_what_was_found_stays_mended(arguments: list[str]) -> None:
    out = [] if "--out" in arguments else ["--out", "made-by-fuzz"]
    plots = [] if arguments[0] == "report" else ["--no-plots"]
    assert check_call(Call(0, [*arguments, *out, *plots])) is None


@pytest.mark.each(12)
@pytest.mark.parametrize("name", hostile.images())
def test_every_image(name: str) -> None:
    call = ["sweep", *SMALL, "--over", "theta:-1:1:9", "--image", name, "--out", "made-by-fuzz"]
    assert check_call(Call(0, [*call, "--no-plots", "--json"])) is None


@pytest.mark.each(8)
@pytest.mark.parametrize("name", hostile.logs())
def test_every_log(name: str) -> None:
    call = ["explain", name, "--out", "made-by-fuzz", "--json"]
    assert check_call(Call(0, call)) is None


@pytest.mark.each(4)
@pytest.mark.parametrize("name", hostile.CONFIGS)
@pytest.mark.parametrize("command", ["sweep", "optimize"])
def test_every_configuration(name: str, command: str) -> None:
    small = [*SMALL, "--steps", "3"] if command == "optimize" else SMALL
    call = [command, *small, "--config", name, "--out", "made-by-fuzz", "--no-plots", "--json"]
    assert check_call(Call(0, call)) is None


@pytest.mark.slow
def test_generated_calls() -> None:
    assert check_calls(range(60)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_generated_calls(part: int) -> None:
    assert check_calls(range(1000 * (part + 1), 1000 * (part + 2))) == {}


def test_every_command_and_option_is_generated() -> None:
    assert set(QUICK) == set(command_options())
    seen = {(call.arguments[0], word) for call in map(make_call, range(3000))
            for word in call.arguments}  # fmt: skip
    for command, options in command_options().items():
        for option in options:
            if option.param_type_name == "option" and option.name not in ("debug", "out"):
                assert any((command, name) in seen for name in option.opts), (command, option.name)
