"""The response images of every theta as a sum of a few small pictures, which a page can show live.

A response is linear in the kernel, and the responses to the kernels of every theta lie, up to an
invisible error, in a space of some fifteen dimensions. With the principal directions of the
compressed responses, response(theta) = sum_j c_j(theta) R_j: each R_j is one picture, kept in 8
bits at reduced resolution, each c_j a Fourier series.

The reduced picture is the mean over blocks of s x s pixels, which is linear as well: the image is
averaged first and correlated with stride s. Blocks stay smaller than a third of the wavelength,
which averaging would remove otherwise; of an image that is still too large, the middle is shown.
The total size of the pictures is limited.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.response import output_shape
from gabordiag.objective.space import FloatArray

# Largest total size of the pictures in bytes, and largest side in pixels.
_BYTES, _LONGEST = 600_000, 200
# Blocks are at most this part of a wavelength wide: averaging then keeps 83% of a carrier.
_BLOCK_SHARE = 1 / 3
# Root mean square of what is left out, relative to the responses: less than one grey level of 256.
_REST = 0.003
# Angles at which coordinates are sampled, and the relative size below which harmonics are dropped.
_SAMPLES, _NEGLIGIBLE = 256, 1e-7
# The largest signed 8-bit number.
_LEVELS = 127


@dataclass(frozen=True, eq=False)
class ResponsePictures:
    """Responses along theta: response(theta) = sum_j c_j(theta) scales_j components_j.

    Attributes:
        components: 8-bit pictures (r, rows, columns).
        scales: Of one level each (r,).
        cosines: c_j(theta) = sum_k cosines[j, k] cos(k phi) + sines[j, k] sin(k phi), with
            phi = 2 pi theta / period; (r, n + 1).
        sines: (r, n + 1).
        target: The target response at the same resolution, noise included (rows, columns).
        image: The same part of the image, 8 bits from its darkest to its brightest pixel.
        block: Side of the block of image pixels that is averaged into one pixel.
        is_whole: Whether the whole response is shown, not only its middle.
        rest: Root mean square of what is left out, relative to the responses.
    """

    components: npt.NDArray[np.int8]
    scales: FloatArray
    cosines: FloatArray
    sines: FloatArray
    target: FloatArray
    image: npt.NDArray[np.uint8]
    block: int
    is_whole: bool
    rest: float

    def data(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the arrays by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {"block": self.block, "is_whole": self.is_whole, "rest": self.rest}

    def response(self, theta: float, period: float) -> FloatArray:
        """Returns the reduced response (rows, columns) at one angle."""
        waves = np.arange(self.cosines.shape[1]) * (2 * math.pi * theta / period)
        coordinates = self.cosines @ np.cos(waves) + self.sines @ np.sin(waves)
        weighted: FloatArray = np.tensordot(coordinates * self.scales, self.components, axes=1)
        return weighted


def picture_responses(objective: ShortcutObjective) -> ResponsePictures:
    """Returns the responses of an experiment along theta as pictures."""
    experiment, period = objective.experiment, objective.parameter.period
    assert period is not None
    thetas = torch.as_tensor(period * np.arange(_SAMPLES) / _SAMPLES)
    kernels = objective.kernels(thetas).to(dtype=torch.float64, device="cpu")
    left, singular, _ = torch.linalg.svd(
        objective.compressed(kernels.to(objective.dtype)).double().cpu(), full_matrices=False
    )
    rest = (singular.flip(0) ** 2).cumsum(0).flip(0).sqrt() / singular.norm()
    rank = max(1, int((rest > _REST).sum()))
    left, singular = left[:, :rank], singular[:rank]
    # The kernels whose responses are the unit directions: k(theta) = sum_j c_j(theta) kappa_j.
    directions = torch.einsum("nj,nyx->jyx", left / singular, kernels)
    padded, size = experiment.padded, experiment.kernel_size
    crop = _Crop.middle(output_shape(padded, size), experiment.wavelength, rank)
    target_kernel = objective.kernels(torch.tensor([experiment.target_theta])).double().cpu()
    responses = crop.responses(padded, torch.cat([directions, target_kernel])).numpy()
    target = responses[-1]
    if experiment.noise is not None:
        target = target + crop.average(experiment.noise[crop.rows, crop.columns]).numpy()
    scales = np.abs(responses[:-1]).max(axis=(1, 2)) / _LEVELS
    scales = np.where(scales > 0, scales, 1.0)
    cosines, sines = _fourier((left * singular).numpy().T)
    half = size // 2
    # The pixels under the centres of the kernels.
    seen = padded[half : len(padded) - half, half : padded.shape[1] - half]
    return ResponsePictures(
        components=np.round(responses[:-1] / scales[:, None, None]).astype(np.int8),
        scales=scales,
        cosines=cosines,
        sines=sines,
        target=target,
        image=_to_bytes(crop.average(seen[crop.rows, crop.columns]).numpy()),
        block=crop.block,
        is_whole=crop.is_whole,
        rest=float(rest[rank]) if rank < len(rest) else 0.0,
    )


@dataclass(frozen=True)
class _Crop:
    """The rows and columns of a response that are shown, in blocks."""

    rows: slice
    columns: slice
    block: int
    is_whole: bool

    @classmethod
    def middle(cls, shape: tuple[int, int], wavelength: float, count: int) -> _Crop:
        """Cuts the middle out of a response of which so many pictures are shown."""
        side = min(_LONGEST, math.isqrt(_BYTES // count))
        widest = min(math.floor(wavelength * _BLOCK_SHARE), *shape)
        block = max(1, min(math.ceil(max(shape) / side), widest))
        spans = []
        for length in shape:
            shown = min(length // block, side) * block
            first = (length - shown) // 2
            spans.append(slice(first, first + shown))
        hidden = [n - (span.stop - span.start) for n, span in zip(shape, spans, strict=True)]
        return cls(spans[0], spans[1], block, max(hidden) < block)

    def average(self, picture: Tensor) -> Tensor:
        """Returns the means over the blocks of (shown rows, shown columns)."""
        pooled: Tensor = torch.nn.functional.avg_pool2d(picture[None, None], self.block)[0, 0]
        return pooled

    def responses(self, padded: Tensor, kernels: Tensor) -> Tensor:
        """Returns the reduced responses (n, rows, columns) of the kernels (n, K, K)."""
        size, rows, columns = kernels.shape[-1], self.rows, self.columns
        part = padded[rows.start : rows.stop + size - 1, columns.start : columns.stop + size - 1]
        averaged = torch.nn.functional.avg_pool2d(part[None, None], self.block, stride=1)
        # Single precision: the result has 8 bits.
        found = torch.nn.functional.conv2d(
            averaged.float(), kernels[:, None].float(), stride=self.block
        )
        return found[0].double()


def _fourier(samples: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns cosines and sines (r, n + 1) of series sampled evenly over a period (r, m)."""
    spectrum = 2 * np.fft.rfft(samples, axis=1) / samples.shape[1]
    spectrum[:, 0] /= 2
    large = np.abs(spectrum).max(axis=0) > _NEGLIGIBLE * np.abs(spectrum).max()
    count = int(np.flatnonzero(large)[-1]) + 1
    return spectrum.real[:, :count], -spectrum.imag[:, :count]


def _to_bytes(picture: FloatArray) -> npt.NDArray[np.uint8]:
    low, high = float(picture.min()), float(picture.max())
    return np.round(255 * (picture - low) / ((high - low) or 1.0)).astype(np.uint8)
