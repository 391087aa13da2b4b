"""The torch executor of networks with a memory: an LSTM or GRU between trunk and heads, or a user's module.

Sources: Hochreiter & Schmidhuber 1997 (LSTM; its forget gate: Gers et al. 2000); Cho et al. 2014 (GRU);
Hausknecht & Stone 2015 (recurrent agents); Huang et al. 2022 (LSTM details 1-5 of PPO).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastrl.cnn import ImageTrunk, orthogonal_
from fastrl.networks import NetworkOptions
from fastrl.sequences import Sequences
from fastrl.torch_gru import gru
from fastrl.torch_networks import TorchNetwork

Float32 = NDArray[np.float32]

ACTIVATIONS: Mapping[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}


class RecurrentNetwork(TorchNetwork):
    """Runs a module with a memory on the CPU.

    Args:
        module: has an attribute ``recurrent_state_size`` S and maps one step's observations [B, ...] and
            recurrent state float32 [B, S] to (y, next state [B, S]), y as for :class:`TorchNetwork`. If it
            has a method ``sequence(obs [T, B, ...], state [B, S], start [T, B]) -> y [T, B, outputs]`` that
            computes the same (the state is zero before a step with ``start``), training calls that.
        bf16: whether trunk and heads compute in bfloat16; a memory of fastrl's own stays float32.
        free: as for :class:`TorchNetwork`.
        shape: as for :class:`TorchNetwork`.

    Raises:
        ValueError: as for :class:`TorchNetwork`, or no ``recurrent_state_size`` >= 1.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        bf16: bool = False,
        free: tuple[tuple[str, int], ...] = (),
        shape: tuple[int, ...] = (1,),
    ) -> None:
        size: Any = getattr(module, "recurrent_state_size", None)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"policy: the module's recurrent_state_size must be an int >= 1, got {size!r}")
        self.state_size = size
        super().__init__(module, bf16=bf16, free=free, shape=shape)

    def step(self, x: NDArray[Any], state: Float32) -> tuple[Float32, Float32]:
        """y [B, outputs] and the next state [B, S] for x [B, ...] and the state before it."""
        self._switch(False)
        with torch.inference_mode(), self._precision():
            y, after = self._run(torch.from_numpy(x), torch.from_numpy(state))
            return self._joined(y, len(x)).numpy(), after.float().numpy()

    def forward(self, x: Any) -> tuple[Float32, torch.Tensor]:
        """y [rows, outputs] for the valid steps of :class:`Sequences`, in the order of time, and the tape."""
        self._switch(True)
        with self._precision():
            y = self._unroll(x)
        return y.detach().numpy(), y

    def infer(self, x: Any) -> Float32:
        """y alone."""
        self._switch(False)
        with torch.inference_mode(), self._precision():
            return self._unroll(x).numpy()

    def _unroll(self, x: Sequences) -> torch.Tensor:
        obs, state, start = torch.from_numpy(x.obs), torch.from_numpy(x.state), torch.from_numpy(x.start)
        sequence: Any = getattr(self.module, "sequence", None)
        if sequence is not None:
            y: torch.Tensor = sequence(obs, state, start).flatten(0, 1).float()
        else:
            y = torch.cat([self._joined(y, start.shape[1]) for y in self._steps(obs, state, start)])
        return y if x.valid is None else y[torch.from_numpy(x.valid.ravel())]

    def _steps(self, obs: torch.Tensor, state: torch.Tensor, start: torch.Tensor) -> Iterator[Any]:
        for now, begins in zip(obs, start, strict=True):
            y, state = self._run(now, torch.where(begins[:, None], 0.0, state))
            yield y


class Memory(nn.Module):
    """A trunk, then an LSTM or GRU: orthogonal weights, zero biases (Huang et al. 2022, LSTM detail 1).

    The state of an LSTM is its hidden state, then its cell state.

    Args:
        trunk: gives [B, width] for observations [B, ...].
        width: of the trunk's features.
        kind: "lstm" or "gru".
        size: units.
        generator: of the initial parameters.
    """

    def __init__(
        self, trunk: nn.Module, width: int, kind: str, size: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.lstm = kind == "lstm"
        self.rnn = nn.LSTM(width, size) if self.lstm else nn.GRU(width, size)
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("weight"):
                nn.init.orthogonal_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)
        self.recurrent_state_size = 2 * size if self.lstm else size

    def forward(self, obs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden and next state, [B, size] and [B, state_size], for observations after a state."""
        x = self.trunk(obs).to(state.dtype)
        w, u, b, c = self.rnn.parameters()
        with torch.autocast("cpu", enabled=False):
            if not self.lstm:
                h = torch.gru_cell(x, state, w, u, b, c)
                return h, h
            h, cell = torch.lstm_cell(x, state.chunk(2, 1), w, u, b, c)
            return h, torch.cat([h, cell], 1)

    def sequence(self, obs: torch.Tensor, state: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Hidden states [T, B, size] of sequences; torch runs each stretch between starts as a whole."""
        x = self.trunk(obs.flatten(0, 1)).to(state.dtype).view(*start.shape, -1)
        with torch.autocast("cpu", enabled=False):
            if not self.lstm:
                w, u, b, c = self.rnn.parameters()
                return gru(nn.functional.linear(x, w, b), u, c, state, start)
            outputs = []
            for begin, end in stretches(start.numpy()):
                state = torch.where(start[begin, :, None], 0.0, state)
                before = tuple(part[None].contiguous() for part in state.chunk(2, 1))
                h, (hidden, cell) = self.rnn(x[begin:end], before)
                state = torch.cat([hidden[0], cell[0]], 1)
                outputs.append(h)
            return torch.cat(outputs)


class RecurrentActorCritic(nn.Module):
    """Linear heads for policy and value on the hidden states of one memory, or of one each.

    Args:
        memories: one for both, or the actor's and the critic's; their states stand side by side.
        size: of their hidden states.
        columns: outputs of the policy head.
        generator: of the initial parameters.
    """

    def __init__(self, memories: list[Memory], size: int, columns: int, generator: torch.Generator) -> None:
        super().__init__()
        self.memories = nn.ModuleList(memories)
        self.policy = orthogonal_(nn.Linear(size, columns), 0.01, generator)
        self.value = orthogonal_(nn.Linear(size, 1), 1.0, generator)
        self.recurrent_state_size = sum(memory.recurrent_state_size for memory in memories)

    def forward(self, obs: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, columns + 1], and the next state, for observations [B, ...] and the state before them."""
        parts = zip(self.memories, state.chunk(len(self.memories), 1), strict=True)
        hidden, after = zip(*(memory(obs, part) for memory, part in parts), strict=True)
        return self._heads(hidden), torch.cat(after, 1)

    def sequence(self, obs: torch.Tensor, state: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """[T, B, columns + 1] for sequences [T, B, ...]."""
        parts: Any = zip(self.memories, state.chunk(len(self.memories), 1), strict=True)
        return self._heads([memory.sequence(obs, part, start) for memory, part in parts])

    def _heads(self, hidden: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([self.policy(hidden[0]), self.value(hidden[-1])], -1)


def stretches(start: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Begin and end of stretches of time: environments begin episodes at their first steps only."""
    cuts = [0, *(1 + np.flatnonzero(start[1:].any(axis=1))).tolist(), len(start)]
    yield from pairwise(cuts)


def build(
    shape: tuple[int, ...],
    columns: int,
    trunk: str,
    options: NetworkOptions,
    seed: np.random.SeedSequence,
    module: nn.Module | None,
    free: tuple[tuple[str, int], ...],
) -> RecurrentNetwork:
    """A recurrent actor-critic for observations of ``shape``; see ``fastrl.policies.build_network``.

    Raises:
        ValueError: a module whose output or next state has another shape than wanted.
    """
    if module is None:
        generator = torch.Generator().manual_seed(int(seed.generate_state(1)[0]))
        kind, size = options.recurrent, options.recurrent_size
        memories = [
            Memory(*_trunk(trunk, shape, options, generator), kind, size, generator)
            for _ in range(2 if trunk == "mlp" else 1)
        ]
        module = RecurrentActorCritic(memories, size, columns, generator)
    network = RecurrentNetwork(module, bf16=options.bf16, free=free, shape=shape)
    obs = np.zeros((2, *shape), np.uint8 if len(shape) == 3 else np.float32)
    y, state = network.step(obs, np.zeros((2, network.state_size), np.float32))
    wanted = (2, columns + 1), (2, network.state_size)
    if (y.shape, state.shape) != wanted:
        raise ValueError(
            f"policy: a module with a memory must give ([B, {columns + 1}], [B, {network.state_size}]): "
            f"{columns} columns for the action distribution and the value, and the next state; for 2 "
            f"observations it gave {list(y.shape)} and {list(state.shape)}"
        )
    return network


def _trunk(
    trunk: str, shape: tuple[int, ...], options: NetworkOptions, generator: torch.Generator
) -> tuple[nn.Module, int]:
    if trunk != "mlp":
        image = ImageTrunk(trunk, shape, generator)
        return image, image.width
    widths = [shape[0], *options.hidden]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers.append(orthogonal_(nn.Linear(inputs, outputs), float(np.sqrt(2.0)), generator))
        layers.append(ACTIVATIONS[options.activation]())
    return nn.Sequential(*layers), widths[-1]
