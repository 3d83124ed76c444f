"""Starts for Gabor filters from the kernels that least squares gives.

Where the responses themselves are the target, they are linear in the kernels, and the kernels that
explain them best are known without a descent. The five parameters of each filter are then those of
the Gabor filter that is most similar to its kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gabordiag.gabor import PARAMETER_NAMES, gabor_kernel
from gabordiag.gabor_fit import fit_gabor
from gabordiag.gabor_layer import GaborConv2d
from gabordiag.own.training import Batch, State, Training, Watched

# Bytes that the responses to all single pixels of a kernel may take, of one input.
_MOST_BYTES = 512 * 2**20
# A filter is stuck where another start leaves at most this part of the error of its responses, and
# the error is at least this part of the target's square; below that a start is good.
_LOWER, _COUNTS = 0.5, 1e-3


def kernel_starts(
    training: Training, watched: Sequence[Watched], state: State, batches: Sequence[Batch]
) -> tuple[dict[str, float], frozenset[str]]:
    """Returns coordinates of the filters that least squares finds, by label, and who is stuck.

    Stuck are the elements of filters whose error those leave far below; all are starts, as a
    training that begins anew with some alone may lose others that had arrived.

    With A the responses to the single pixels of a kernel (P, K^2) and y the target responses (P,
    n), the kernels are those of the smallest |A k - y|: A^T A k = A^T y, of the smallest norm where
    several are. Both are empty where the model's output is not the response of one `GaborConv2d`
    with one input channel, or not all five parameters are watched.
    """
    layer = _layer(training, watched)
    if layer is None:
        return {}, frozenset()
    with training.kept(0), torch.no_grad():
        training.load(state)
        sums = _normal_equations(training, layer, batches)
        own = layer.kernels().flatten(1).double()
        now = own if layer.bias is None else torch.cat([own, layer.bias[:, None].double()], 1)
    if sums is None:
        return {}, frozenset()
    gram, moments, power = sums
    found = torch.linalg.lstsq(gram.cpu(), moments.cpu(), driver="gelsd").solution.T
    if not found.isfinite().all():
        return {}, frozenset()
    pixels = layer.kernel_size**2
    values = fit_gabor(found[:, :pixels].reshape(-1, layer.kernel_size, layer.kernel_size))
    fitted = gabor_kernel(*values.values(), kernel_size=layer.kernel_size).flatten(1)
    after = torch.cat([fitted, found[:, pixels:]], 1)

    def error(kernels: Tensor) -> Tensor:
        # |A k - y|^2, less what no kernel explains.
        off = kernels - found
        return torch.einsum("ni,ij,nj->n", off, gram.cpu(), off)

    before, left, counts = error(now.cpu()), error(after), _COUNTS * power.cpu()
    is_lower = left <= _LOWER * before
    starts, stuck = {}, set()
    for element in watched:
        row = element.row or 0
        value = float(values[element.group.rpartition(".")[2]][row])
        if (is_lower[row] or left[row] <= counts[row]) and math.isfinite(value):
            starts[element.label] = math.log(value) if element.kind == "log" else value
            if is_lower[row] and before[row] > counts[row]:
                stuck.add(element.label)
    return starts, frozenset(stuck)


def _layer(training: Training, watched: Sequence[Watched]) -> GaborConv2d | None:
    layers = {element.layer for element in watched}
    layer = training.model.get_submodule(layers.pop()) if len(layers) == 1 else None
    if not isinstance(layer, GaborConv2d) or layer.mix is not None or layer.groups > 1:
        return None
    names: dict[int | None, set[str]] = {}
    for element in watched:
        names.setdefault(element.row, set()).add(element.group.rpartition(".")[2])
    return layer if all(found == set(PARAMETER_NAMES) for found in names.values()) else None


def _normal_equations(
    training: Training, layer: GaborConv2d, batches: Sequence[Batch]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Returns A^T A, A^T y and the squares of y (n,); None where y is no response of the layer."""
    pixels = layer.kernel_size**2
    eye = torch.eye(pixels).reshape(pixels, 1, layer.kernel_size, layer.kernel_size)
    gram = moments = power = torch.zeros(())
    for batch in batches:
        seen: list[tuple[Tensor, Tensor]] = []
        with layer.register_forward_hook(
            lambda _, inputs, output, seen=seen: seen.append((inputs[0], output))
        ):
            output = training.compare(training.model, batch)[1]
        target = batch[1]
        if len(seen) != 1 or not isinstance(target, Tensor) or not isinstance(output, Tensor):
            return None
        source, response = seen[0]
        is_response = target.shape == output.shape == response.shape
        if not (is_response and target.is_floating_point() and torch.equal(output, response)):
            return None
        if pixels * response[0, 0].numel() * 8 > _MOST_BYTES:
            return None
        for image, wanted in zip(source.double(), target.double(), strict=True):
            shifted = layer.convolve(image[None], eye.to(image))[0].flatten(1)
            if layer.bias is not None:
                shifted = torch.cat([shifted, torch.ones_like(shifted[:1])])
            gram = gram.to(shifted) + shifted @ shifted.T
            moments = moments.to(shifted) + shifted @ wanted.flatten(1).T
            power = power.to(shifted) + wanted.flatten(1).square().sum(1)
    return gram, moments, power
