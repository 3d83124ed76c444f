"""Closed streams, odd terminals, hostile names, and own code that writes where it should not."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gabordiag.cli.main import run
from gabordiag.runs.formats import read_config
from gabordiag.runs.saved import load_run, load_unfinished
from gabordiag.wording import printable

NOISY = """
import atexit
import ctypes
import os
import subprocess

atexit.register(print, "bye")

def loss(v):
    print("printed")
    os.write(1, b"written\\n")
    os.system("echo from a shell")
    subprocess.run(["echo", "from a child"])
    ctypes.CDLL(None).puts(b"from C")
    return (v - 0.3) ** 2
"""
LAYER = """
import torch

class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.full((2, 2), 0.5))

    def forward(self):
        return ((self.weights - 0.2) ** 2).sum()
"""
COMMAND = f"{shlex.quote(sys.executable)} -m gabordiag"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    rows = "".join(f"{step},{0.9**step},{0.81**step}\n" for step in range(30))
    Path("log.csv").write_text("step,theta,loss\n" + rows)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.each(5)
@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-", "<&-", ">&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    done = shell(f"{COMMAND} explain log.csv --out made {closed}")
    assert done.returncode == 0
    assert "Internal error" not in done.stdout + done.stderr
    # A free descriptor 1 would have let what is printed into one of these.
    assert json.loads(Path("made/result.json").read_text())["command"] == "explain"
    assert Path("made/config.toml").read_text().startswith("# All settings")


@pytest.mark.each(5)
@pytest.mark.slow
@pytest.mark.parametrize("width", ["0", "00", "1", "x", ""])
def test_odd_widths(width: str) -> None:
    done = shell(f"{COMMAND} explain log.csv --no-plots", COLUMNS=width)
    assert (done.returncode, done.stderr) == (0, "")


def test_bare_call_shows_the_help_with_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = [line.strip("│ ") for line in shown.err.splitlines()]
    assert next(line for line in lines if line).startswith("Usage: gabordiag")
    assert [line for line in lines if line.split()[:1] == ["diagnose"]]


@pytest.mark.slow
def test_stdout_is_one_json_object_whatever_own_code_writes() -> None:
    Path("noisy.py").write_text(NOISY)
    done = shell(
        f"{COMMAND} optimize --objective noisy.py:loss --range=-1:1 --steps 2 --json --no-plots"
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["command"] == "optimize"
    for text in ("printed", "written", "from a shell", "from a child", "from C", "bye"):
        assert text in done.stderr


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "std::bad_alloc",
        "can't start new thread",
        "libfoo.so: failed to map segment from shared object: Cannot allocate memory",
    ],
)
def test_libraries_that_run_out_of_memory(
    message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr("gabordiag.diagnosis.log.explain.explain", full)
    assert run(["explain", "log.csv"]) == 3
    assert capsys.readouterr().err.startswith("gabordiag: Not enough memory.\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("\x07\x9b\x7f", "\\x07\\x9b\\x7f"),
        ("caf\udce9", "caf\\udce9"),
        ("\u202e", "\\u202e"),
        ("Ω 45° − ok\n\ttab", "Ω 45° − ok\n\ttab"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.slow
def test_control_characters_reach_neither_terminal_nor_report() -> None:
    Path("odd.csv").write_bytes(
        Path("log.csv").read_bytes().replace(b"theta", b"th\x1b]0;x\x07eta")
    )
    Path("raise.py").write_text("def loss(v):\n    raise ValueError('\\x1b[2J')\n")
    Path("odd.toml").write_text('"x\\u001b[2J" = 1\n')
    calls = [
        "explain odd.csv --out made",
        "explain odd.csv --json",
        "explain odd.csv --value-column $'\\e[2J'",
        "explain odd.csv $'--\\e[2J'",
        "explain log.csv --config odd.toml",
        "sweep --objective raise.py:loss --range=-1:1",
        "report $'\\e[2J'",
        "report made",
    ]
    for call in calls:
        done = shell(f"{COMMAND} {call}")
        assert "\x1b" not in done.stdout + done.stderr, call
        assert "Internal" not in done.stderr, call
    for name in ("report.md", "report.html"):
        assert b"\x1b" not in Path("made", name).read_bytes()


@pytest.mark.slow
def test_file_names_that_are_not_utf8() -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    Path(name).write_bytes(Path("log.csv").read_bytes())
    quoted = "$'caf\\xe9.csv'"
    done = shell(f"{COMMAND} explain {quoted} --out $'m\\xe9' --json")
    assert (done.returncode, json.loads(done.stdout)["command"]) == (0, "explain")
    folder = Path(os.fsdecode(b"m\xe9"))
    assert read_config(folder / "config.toml")["log"] == str(Path(name).resolve())
    assert shell(f"{COMMAND} report $'m\\xe9'").returncode == 0
    assert shell(f"{COMMAND} explain $'absent\\xe9.csv'").returncode == 3
    np.save(os.fsdecode(b"\xe9.npy"), np.random.default_rng(0).random((24, 24)))
    small = "--kernel-size 9 --wavelength 5 --sigma 2 --no-plots"
    made = shell(f"{COMMAND} sweep --image $'\\xe9.npy' {small} --out swept")
    assert (made.returncode, made.stderr) == (0, "")
    again = shell(f"{COMMAND} sweep --config swept/config.toml --no-plots --out again")
    assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.slow
def test_names_with_commas_come_back() -> None:
    Path("layer.py").write_text(LAYER)
    own = ["--objective", "layer.py:Layer", "--param", "weights[0,1]", "--range=-1:1"]
    assert run(["sweep", *own, "--out", "swept"]) == 0
    assert next(iter(load_run(Path("swept")).view.data["sweep.csv"])) == "weights[0,1]"
    assert run(["report", "swept", "--quiet"]) == 0
    assert run(["optimize", *own, "--steps", "20", "--lr", "0.1", "--out", "ran"]) == 0
    log = Path("ran/trajectory-000.csv")
    assert log.read_text().splitlines()[0] == 'step,"weights[0,1]",loss,grad,update,lr'
    assert run(["explain", str(log), "--value-column", "weights[0,1]", "--quiet"]) == 0
    assert run(["report", "ran", "--quiet"]) == 0
    # Interrupted after ten of its twenty steps, and resumed.
    whole = log.read_bytes()
    Path("ran/result.json").unlink()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:11]))
    assert list(load_unfinished(Path("ran")).logs[log.name])[1] == "weights[0,1]"
    assert run(["report", "ran", "--quiet"]) == 0
    assert run(["optimize", "--resume", "ran", "--quiet"]) == 0
    assert log.read_bytes() == whole
