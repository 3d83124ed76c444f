"""Hostile files for the fuzz run: images, logs, settings, run folders, code; made in one folder."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gabordiag.cli.main import run

OWN = """
import sys
import torch

def good(value):
    return (value - 0.3) ** 2

def chatty(value):
    print("on stdout", float(value))
    return (value - 0.3) ** 2

def raises(value):
    raise RuntimeError("first line\\nsecond line\\nthird line")

def raises_odd(value):
    raise KeyError()

def leaves(value):
    sys.exit(7)

def recursive(value):
    return recursive(value)

def nan(value):
    return value * float("nan")

def infinite(value):
    return value / 0.0

def nothing(value):
    return None

def text(value):
    return "0.5"

def vector(value):
    return torch.stack([value, value])

def imaginary(value):
    return torch.complex(value, value)

def cut(value):
    return torch.tensor(value.item() ** 2)

def constant(value):
    return torch.tensor(1.0)

def kink(value):
    return (value - 0.3).abs()

def root(value):
    return (value ** 2).sqrt()

def huge(value):
    return 1e300 * (value - 0.1) ** 2

def late(value):
    if value > 0.5:
        raise ValueError("late")
    return -value

def no_argument():
    return 3

def two(one, other):
    return one

number = 5

class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(0.2))
        self.weights = torch.nn.Parameter(torch.ones(2, 2))

    def forward(self, x):
        return torch.sin(self.theta) * x + self.weights[0, 1]

def kernel(theta=0.0, wavelength=10.0, sigma=4.0, psi=0.0, gamma=0.5, kernel_size=31, **rest):
    return torch.zeros(kernel_size, kernel_size)

def bad_kernel(*anything, **named):
    return "kernel"
"""


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG with a header of any size, whatever pixels follow."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(data)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@cache
def images() -> dict[str, bytes]:
    """Returns image files by name, usable ones and others."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)
    grey = Image.fromarray(pixels)
    colour = Image.fromarray(np.stack([pixels, pixels[::-1], pixels[:, ::-1]], axis=-1))
    turned = Image.Exif()
    turned[0x0112] = 6
    bad_exif = Image.Exif()
    bad_exif[0x0112] = 77
    png = _saved(grey, "PNG")
    floats = pixels / 255.0
    with_nan = floats.copy()
    with_nan[3, 4] = np.nan
    with_inf = floats.copy()
    with_inf[0, 0] = -np.inf
    npy = _npy(floats)
    return {
        "good.npy": npy,
        "grey.png": png,
        "colour.jpg": _saved(colour, "JPEG"),
        "colour.webp": _saved(colour, "WEBP"),
        "grey.tiff": _saved(grey, "TIFF"),
        "truncated.png": png[: len(png) // 2],
        "truncated.jpg": _saved(colour, "JPEG")[:300],
        "truncated.tiff": _saved(grey, "TIFF")[:200],
        "jpeg.png": _saved(colour, "JPEG"),
        "text.png": b"this is no image\n",
        "empty.png": b"",
        "one.png": _saved(Image.new("L", (1, 1), 9), "PNG"),
        "line.png": _saved(grey.resize((20, 1)), "PNG"),
        "constant.png": _saved(Image.new("L", (20, 20), 9), "PNG"),
        "sixteen.png": _saved(Image.fromarray(pixels.astype(np.uint16) * 257), "PNG"),
        "sixteen.tiff": _saved(Image.fromarray(pixels.astype(np.uint16) * 257), "TIFF"),
        "floats.tiff": _saved(Image.fromarray(floats.astype(np.float32)), "TIFF"),
        "nan.tiff": _saved(Image.fromarray(with_nan.astype(np.float32)), "TIFF"),
        "palette.png": _saved(colour.convert("P"), "PNG"),
        "palette.gif": _saved(colour.convert("P"), "GIF", transparency=0),
        "one-bit.png": _saved(grey.convert("1"), "PNG"),
        "alpha.png": _saved(colour.convert("RGBA"), "PNG"),
        "grey-alpha.png": _saved(grey.convert("LA"), "PNG"),
        "cmyk.jpg": _saved(colour.convert("CMYK"), "JPEG"),
        "ycbcr.jpg": _saved(colour.convert("YCbCr"), "JPEG"),
        "turned.jpg": _saved(colour, "JPEG", exif=turned),
        "bad-exif.jpg": _saved(colour, "JPEG", exif=bad_exif),
        "animated.gif": _saved(
            grey, "GIF", save_all=True, append_images=[grey.rotate(90), grey.rotate(180)]
        ),
        "animated.webp": _saved(colour, "WEBP", save_all=True, append_images=[colour.rotate(90)]),
        "bomb.png": _png(30000, 30000),
        "huge.png": _png(2**31 - 1, 2**31 - 1),
        "zero.png": _png(0, 5),
        "broken.png": _png(20, 20, b"\x09" * 420),
        "short.png": _png(20, 20, b"\0" * 30),
        "nan.npy": _npy(with_nan),
        "inf.npy": _npy(with_inf),
        "pickled.npy": _npy(np.array([{"a": 1}, None], dtype=object), allow_pickle=True),
        "complex.npy": _npy(floats + 1j),
        "text.npy": _npy(np.array([["a", "b"]])),
        "dates.npy": _npy(np.array([["2020-01-01"]], dtype="datetime64[D]")),
        "records.npy": _npy(np.zeros((20, 20), dtype=[("a", "f8")])),
        "bools.npy": _npy(pixels > 99),
        "bytes.npy": _npy(pixels),
        "small.npy": _npy(1e-200 * floats),
        "large.npy": _npy(1e200 * floats),
        "subnormal.npy": _npy(5e-324 * pixels.astype(np.float64)),
        "largest.npy": _npy(np.where(pixels > 99, 1.7e308, -1.7e308)),
        "empty.npy": _npy(np.zeros((0, 5))),
        "scalar.npy": _npy(np.float64(3)),
        "vector.npy": _npy(np.arange(5.0)),
        "cube.npy": _npy(np.zeros((5, 5, 3))),
        "fortran.npy": _npy(np.asfortranarray(floats)),
        "truncated.npy": npy[: len(npy) // 2],
        "lying.npy": npy.replace(b"(24, 20)", b"(99, 99)"),
        "monstrous.npy": npy.replace(b"(24, 20), }", b"(99999999999, 20), }"),
        "header.npy": npy[:12] + b"\xff" * 100,
        "archive.npy": _archive(floats),
        "no-suffix": png,
        "ünï cödé.png": png,
    }


def _archive(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=array)
    return buffer.getvalue()


@cache
def logs() -> dict[str, bytes]:
    """Returns logs by name, usable ones and others."""
    rows = "".join(f"{t},{0.5 + 0.4 * (-1) ** t},{1 + 0.1 * t},0.3,0.01\n" for t in range(40))
    good = "step,theta,loss,grad,lr\n" + rows
    lines = "".join(json.dumps({"step": t, "w": t / 9, "loss": 1 / (t + 1)}) + "\n"
                    for t in range(30))  # fmt: skip
    return {
        "good.csv": good.encode(),
        "good.jsonl": lines.encode(),
        "bom.csv": b"\xef\xbb\xbf" + good.encode(),
        "crlf.csv": good.replace("\n", "\r\n").encode(),
        "empty.csv": b"",
        "newlines.csv": b"\n\n\n\n",
        "header.csv": b"step,theta,loss\n",
        "one-line.csv": b"0,0.5,1.0",
        "one-row.csv": b"step,theta,loss\n0,0.5,1.0\n",
        "two-rows.csv": b"step,theta,loss\n0,0.5,1.0\n1,0.5,0.9\n",
        "columns.csv": b"a,b,c\n1,2,3\n4,5,6\n7,8,9\n",
        "no-value.csv": b"step,loss\n0,1\n1,2\n2,3\n",
        "twice.csv": b"loss,loss,theta,theta\n1,2,3,4\n5,6,7,8\n",
        "nameless.csv": b",,loss\n1,2,3\n4,5,6\n",
        "mixed.csv": b"step,theta,loss\n0,abc,1\n1,2,def\n2,,\n3,4,5,6,7\n4,true,nan\n5,0.1,0.2\n",
        "quotes.csv": b'step,"the ""ta",loss\n0,"1",2\n1,"3,5",4\n2,"unclosed,5\n3,4,5\n',
        "latin1.csv": "step,thêta,loss\n0,1,2\n".encode("latin-1"),
        "utf16.csv": good.encode("utf-16"),
        "nul.csv": good.replace("0.3", "0.\0").encode(),
        "binary.csv": bytes(range(256)) * 9,
        "nan.csv": (good + "40,nan,nan,nan,nan\n41,nan,inf,-inf,0.1\n").encode(),
        "all-nan.csv": b"step,theta,loss\n" + b"0,nan,nan\n" * 30,
        "inf.csv": b"step,theta,loss\n" + b"0,1e308,1e308\n1,-1e308,-1e308\n" * 30,
        "huge.csv": b"step,theta,loss\n" + b"0,1e999,1e-999\n" * 9 + b"9" * 5000 + b",1,1\n",
        "constant.csv": b"step,theta,loss\n" + b"0,1,1\n" * 50,
        "long-line.csv": b"step,theta,loss\n" + b"1" * 2_000_000,
        "deep.jsonl": b'{"a":' + b"[" * 100_000 + b"\n" + lines.encode(),
        "mixed.jsonl": b'{"loss": 1, "w": 2}\n[1, 2]\nnull\n{"loss": "x", "w": {}}\n{"loss": 3}\n'
        b'{"loss": NaN, "w": Infinity}\n{"loss": 1e999, "w": 1}\n{bad\n{"w": 9, "loss": 8}\n',
        "numbers.jsonl": b"1\n2\n3\n",
        "integers.jsonl": b'{"loss": ' + b"9" * 4000 + b', "w": 1}\n' * 3,
        "script.csv": b"step,theta,loss\n0,__import__('os').system('touch owned'),1\n1,2,3\n",
        "markup.csv": b"step,[bold]t|`*<b>,loss\n" + b"0,1,2\n1,2,1\n2,1,3\n" * 9,
    }  # fmt: skip


CONFIGS = {
    "empty.toml": b"",
    "good.toml": b"sigma = 2.0\nseed = 3\n",
    "latin1.toml": "sigma = 2 # \xe9".encode("latin-1"),
    "broken.toml": b"sigma = \n",
    "twice.toml": b"sigma = 1\nsigma = 2\n",
    "unknown.toml": b"sygma = 1\n",
    "tables.toml": b"[sigma]\na = 1\n",
    "list.toml": b"sigma = [1, 2]\nimage = ['a', 'b']\n",
    "types.toml": b"sigma = 'two'\nimage = 5\nseed = 1.5\nsteps = true\n",
    "date.toml": b"seed = 1979-05-27T07:32:00Z\n",
    "number.toml": b"log = 5\nimage = 7\nobjective = 3\n",
    "nan.toml": b"sigma = nan\nlr = inf\n",
    "huge.toml": b"seed = " + b"9" * 400 + b"\n",
    "other.toml": b"command = 'sweep'\nsigma = 2.0\n",
    "odd.toml": b"command = 5\n",
    "output.toml": b"out = 'there'\njson = 'yes'\nconfig = 'good.toml'\n",
    "help.toml": b"help = true\nresume = 'x'\nctx = 1\n",
    "deep.toml": b"a = " + b"[" * 3000 + b"]" * 3000 + b"\n",
    "code.toml": b"image = '''$(touch owned)`touch owned`'''\nlr = '__import__(\"os\")'\n",
}


def make(folder: Path) -> None:
    """Writes all files, and run folders, into a folder that is the current one."""
    for name, content in {**images(), **logs(), **CONFIGS}.items():
        (folder / name).write_bytes(content)
    (folder / "own.py").write_text(OWN)
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "raising.py").write_text("raise ValueError('at import')\n")
    (folder / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "folder").mkdir()
    _make_runs(folder / "made")


def _make_runs(root: Path) -> None:
    small = ["--image", "good.npy", "--kernel-size", "5", "--wavelength", "4", "--sigma", "1.5",
             "--no-plots", "--quiet"]  # fmt: skip
    calls = {
        "sweep": ["sweep", "--over", "theta:-1:1:9"],
        "optimize": ["optimize", "--steps", "20"],
        "diagnose": ["diagnose", "--steps", "20"],
        "basins": ["basins", "--lr", "1e-2:1:3", "--starts", "-1:1:3", "--steps", "20"],
        "bifurcate": ["bifurcate", "--lr", "1e-2:1:3", "--steps", "200"],
        "check": ["check"],
        "explain": ["explain", "good.csv"],
    }
    for name, call in calls.items():
        options = small if name not in ("check", "explain") else small[-2:]
        assert run([*call, *options, "--out", str(root / name)]) == 0
    for damage in ("no-result", "cut-result", "newer", "no-config", "cut-log", "no-data", "empty"):
        shutil.copytree(root / "optimize", root / damage)
    (root / "no-result/result.json").unlink()
    text = (root / "newer/result.json").read_text()
    (root / "cut-result/result.json").write_text(text[: len(text) // 2])
    (root / "newer/result.json").write_text(text.replace('"schema": 1', '"schema": 99'))
    (root / "no-config/config.toml").unlink()
    (root / "no-config/result.json").unlink()
    log = root / "cut-log/trajectory-000.csv"
    log.write_bytes(log.read_bytes()[:777])
    (root / "cut-log/result.json").unlink()
    for file in root.glob("no-data/*.csv"):
        file.unlink()
    for file in (root / "empty").iterdir():
        file.unlink()
