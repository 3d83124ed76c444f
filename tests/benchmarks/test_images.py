"""A thousand images of 256 x 256: memory, and how far the rate is from the convolutions' own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.benchmark_suite

COUNT, SIDE = 1000, 256

# In a process of its own, whose peak memory is that of this work alone. One thread and CPU time:
# the ratio then depends neither on the machine's cores nor on who else is using them.
MEASURE = """
import json, resource, sys, time
import torch
torch.set_num_threads(1)
import gabordiag as gd
from gabordiag.objective.gabor_line import along
from gabordiag.objective.response import kernel_basis

experiment = gd.Experiment(images=sys.argv[1])
objective = along(experiment)
begin = time.process_time()
experiment.prepare()
read = time.process_time() - begin

rank = len(objective.compressed.weights)
total = time.process_time() - begin

# What no algorithm that convolves by FFT can avoid: for each image one transform, and for each
# kernel a product with its spectrum and a transform back.
spectra = torch.fft.rfft2(torch.rand(rank, 256, 256, dtype=torch.float64))
image = torch.rand(256, 256, dtype=torch.float64)

def convolve():
    spectrum = torch.fft.rfft2(image)
    for kernel in spectra:
        torch.fft.irfft2(kernel * spectrum, s=(256, 256))

convolve()
begin = time.process_time()
for _ in range(100):
    convolve()
pure = (time.process_time() - begin) / 100
responses = torch.rand(rank, 226 * 226, dtype=torch.float64)
begin = time.process_time()
for _ in range(100):
    responses @ responses.T
products = (time.process_time() - begin) / 100
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"rank": rank, "read": read, "total": total, "pure": pure, "products": products,
                  "peak": peak, "used": len(experiment.image_set)}))
"""


def write_images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for index in range(COUNT):
        pixels = generator.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:04d}.png", compress_level=1)


def test_a_thousand_images(tmp_path: Path) -> None:
    write_images(tmp_path)
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured = json.loads(done.stdout)
    assert measured["used"] == COUNT
    each = measured["total"] / COUNT
    needed = measured["pure"] + measured["products"]
    print(f"\n{COUNT} images of {SIDE} x {SIDE}, K 31, rank {measured['rank']}, one thread:")
    print(f"  {measured['peak']:.0f} MB resident at most")
    print(f"  {each * 1e3:.1f} ms of CPU time an image,")
    print(f"    {measured['read'] / COUNT * 1e3:.1f} ms of which for the first look at the files")
    print(f"  {each / measured['pure']:.2f} x the FFT convolutions alone,")
    print(f"  {each / needed:.2f} x the convolutions and the products of the responses")
    assert measured["peak"] < 1024
