"""Convolutional actor-critics for image observations [C, H, W] or [H, W, C], uint8."""

import numpy as np
import torch
from torch import nn


def orthogonal_(layer: nn.Module, gain: float, generator: torch.Generator) -> nn.Module:
    """``layer`` with orthogonal weights (Saxe et al. 2014) and zero bias, drawn from ``generator``."""
    nn.init.orthogonal_(layer.weight, gain, generator=generator)  # type: ignore[arg-type]
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class PixelConv2d(nn.Conv2d):
    """A convolution of uint8 pixels [B, C, H, W], scaled to [0, 1].

    The scale goes into the weights: a pass less over the pixels, which are integers that bfloat16 holds
    exactly. The layout becomes channels-last, which the CPU's convolutions prefer, while a pixel is one byte.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, out_channels, H', W']."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        x = x.contiguous(memory_format=torch.channels_last).to(dtype)
        y: torch.Tensor = self._conv_forward(x, self.weight * (1.0 / 255.0), self.bias)
        return y


class ImageTrunk(nn.Module):
    """Convolutions and one dense layer; its output is [B, width].

    Pixels are scaled to [0, 1]; see :class:`PixelConv2d`.

    Args:
        trunk: "nature" (Mnih et al. 2015: three convolutions, 512 features) or "impala" (Espeholt et al.
        2018: three
            residual blocks of 16, 32, 32 channels, 256 features).
        shape: of an observation; the shorter of its first and last axis is the channels.
        generator: of the initial parameters.

    Raises:
        ValueError: no such trunk, or images too small for it.
    """

    def __init__(self, trunk: str, shape: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        self.channels_first = shape[0] < shape[2]
        channels, height, width = shape if self.channels_first else (shape[2], shape[0], shape[1])
        gain = float(np.sqrt(2.0))
        if trunk == "nature":
            self.convolutions = _nature(channels, gain, generator)
            self.width = 512
        elif trunk == "impala":
            self.convolutions = _impala(channels, gain, generator)
            self.width = 256
        else:
            raise ValueError(f"network must be nature or impala for images, got {trunk!r}")
        with torch.no_grad():
            try:
                flat = self.convolutions(torch.zeros(1, channels, height, width)).shape[1]
            except RuntimeError as error:
                raise ValueError(
                    f"network {trunk}: images of {height}x{width} are too small: {error}"
                ) from None
        self.dense = orthogonal_(nn.Linear(flat, self.width), gain, generator)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """[B, width] for uint8 images [B, *shape]."""
        x = obs if self.channels_first else obs.permute(0, 3, 1, 2)
        return torch.relu(self.dense(self.convolutions(x)))


class ImageActorCritic(nn.Module):
    """A shared convolutional trunk with a policy head and a value head; its output is [B, columns + 1].

    Args:
        trunk: "nature" or "impala"; see :class:`ImageTrunk`.
        shape: of an observation.
        columns: outputs of the policy head.
        seed: of the initial parameters.
    """

    def __init__(self, trunk: str, shape: tuple[int, ...], columns: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.trunk = ImageTrunk(trunk, shape, generator)
        self.policy = orthogonal_(nn.Linear(self.trunk.width, columns), 0.01, generator)
        self.value = orthogonal_(nn.Linear(self.trunk.width, 1), 1.0, generator)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """[B, columns + 1] for uint8 images [B, *shape]."""
        features = self.trunk(obs)
        return torch.cat([self.policy(features), self.value(features)], 1)


def _nature(channels: int, gain: float, generator: torch.Generator) -> nn.Sequential:
    return nn.Sequential(
        orthogonal_(PixelConv2d(channels, 32, 8, stride=4), gain, generator),
        nn.ReLU(inplace=True),
        orthogonal_(nn.Conv2d(32, 64, 4, stride=2), gain, generator),
        nn.ReLU(inplace=True),
        orthogonal_(nn.Conv2d(64, 64, 3, stride=1), gain, generator),
        nn.ReLU(inplace=True),
        nn.Flatten(),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int, gain: float, generator: torch.Generator) -> None:
        super().__init__()
        self.first = orthogonal_(nn.Conv2d(channels, channels, 3, padding=1), gain, generator)
        self.second = orthogonal_(nn.Conv2d(channels, channels, 3, padding=1), gain, generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + y


def _impala(channels: int, gain: float, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    convolution: type[nn.Conv2d] = PixelConv2d
    for width in (16, 32, 32):
        layers += [
            orthogonal_(convolution(channels, width, 3, padding=1), gain, generator),
            nn.MaxPool2d(3, stride=2, padding=1),
            _Residual(width, gain, generator),
            _Residual(width, gain, generator),
        ]
        channels, convolution = width, nn.Conv2d
    return nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Flatten())
