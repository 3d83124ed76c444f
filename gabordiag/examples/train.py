"""Six filters learn to distinguish gratings of four orientations, in noise."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gabordiag as gd


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gabor = gd.GaborConv2d(1, 6, 9)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.gabor(x)).mean(dim=(2, 3))
        scores: torch.Tensor = self.head(features)
        return scores


def build() -> gd.Training:
    torch.manual_seed(0)
    label = torch.arange(512) % 4
    angle = (math.pi * (label + 0.5) / 4)[:, None, None]
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    image = torch.cos(x * torch.cos(angle) + y * torch.sin(angle) + 6 * torch.rand(512, 1, 1))
    data = TensorDataset((image + torch.randn(512, 16, 16))[:, None], label)
    batches = DataLoader(data, batch_size=64, shuffle=True)
    return gd.Training(Net(), batches, nn.functional.cross_entropy)


if __name__ == "__main__":
    found = gd.diagnose(build(), params=["gabor.theta"], optimizer="sgd", lr=0.1, steps=100)
    print(found.headline)
