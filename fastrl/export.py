"""Export of a trained policy to ONNX, built from the network's parameters by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import ArrayLike, NDArray

from fastrl import __version__, extras
from fastrl.algorithms.base import Algorithm
from fastrl.distributions import Categorical, DiagonalGaussian, Distribution, MultiCategorical
from fastrl.networks import NativeNetwork, Network
from fastrl.normalize import RunningMeanStd
from fastrl.policies import ActorCritic
from fastrl.recurrent import RecurrentPolicy

OPSET, IR_VERSION = 17, 8  # of 2022, so that runtimes of some age read them
RTOL, ATOL = 1e-4, 1e-5
"""How far the ONNX model's logits, means, values and states may be from the agent's."""


class ExportError(RuntimeError):
    """The ONNX model does not do what the agent does; no file was written."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What ``export_onnx`` wrote."""

    path: Path
    max_difference: float
    """Largest absolute difference of logits, means, values and states from the agent's."""
    observations: int
    """Random ones that were compared."""


def export_onnx(agent: Algorithm, path: Path | str, *, observations: int = 1000, seed: int = 0) -> Exported:
    """Write the agent's policy as an ONNX model, after comparing it with the agent.

    Input ``observation``, float32 [N, D]: the environment's observations, flattened; where the agent
    normalises observations, the model does. Outputs: ``logits`` float32 [N, A] (of several choices one after
    the other), or ``mean`` float32 [N, A] of a Gaussian; ``value`` float32 [N]; and ``action`` [N, ...], the
    deterministic action as the environment takes it. A recurrent agent's model has an input ``state`` and an
    output ``next_state`` as well, float32 [N, S]: zeros at an episode's begin, then what the last call gave.

    The model runs in onnxruntime on random observations before the file is put in place: logits, means and
    values must be close to the agent's, actions those of ``agent.predict(..., deterministic=True)`` unless
    two are equally probable within that tolerance.

    Args:
        agent: with an MLP of either executor, or an LSTM or GRU of fastrl's behind MLPs; and with Box
            observations.
        path: the file; an older one is replaced.
        observations: how many to try.
        seed: of the observations.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        ValueError: an agent that cannot be exported, and why, or no place for the file.
        ExportError: the model differs from the agent.
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"export: {path} must be a file in a folder that exists")
    extras.require("onnx", "export")
    parts = _parts(agent)
    model: bytes = _model(agent, parts).SerializeToString()
    difference = _compared(agent, parts, model, observations, seed)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(model)
    return Exported(temporary.replace(path), difference, observations)


class _Parts(NamedTuple):
    policy: ActorCritic
    network: Network
    space: Box
    memory: str


def _parts(agent: Algorithm) -> _Parts:
    policy = getattr(agent, "policy", None)
    if not isinstance(policy, ActorCritic):
        raise ValueError(f"export: {agent.name()} has no actor-critic policy")
    network: Network = getattr(policy.network, "native", policy.network)  # of torch's MLP, which shares it
    space = agent.env.single_observation_space
    memory = getattr(agent.config, "recurrent", "none")
    if not isinstance(network, NativeNetwork) and (memory == "none" or policy.encoder.image):
        raise ValueError("export: the network is torch's: export it with torch.onnx")
    if not isinstance(space, Box):
        raise ValueError(f"export: observations must be a Box, got {space}")
    return _Parts(policy, network, space, memory)


def _model(agent: Algorithm, parts: _Parts) -> Any:
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    x = graph.normalized("observation", parts.policy.normalizer)
    inputs, states = [("observation", parts.policy.encoder.shape[0])], []
    if isinstance(parts.network, NativeNetwork):
        last = graph.layers(parts.network, x)
    else:
        activation, tensors = getattr(agent.config, "activation", ""), parts.network.named_tensors()
        last, size = graph.memories(parts.memory, activation, tensors, x)
        inputs, states = [*inputs, ("state", size)], [("next_state", size)]
    distribution, space = parts.policy.distribution, agent.env.single_action_space
    name, action = graph.action(distribution, last[0])
    graph.finish(action, space)
    graph.add("Squeeze", last[distribution.columns], graph.constant([1]), out="value")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"{agent.name()} on {agent.env_id}",
            [helper.make_tensor_value_info(put, TensorProto.FLOAT, ["N", width]) for put, width in inputs],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None]),
                helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N"]),
                helper.make_tensor_value_info("action", _dtype(space), ["N", *(space.shape or ())]),
                *(
                    helper.make_tensor_value_info(put, TensorProto.FLOAT, ["N", width])
                    for put, width in states
                ),
            ],
            graph.constants,
        ),
        producer_name="fastrl",
        producer_version=__version__,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    facts = {"algorithm": agent.name(), "env": agent.env_id, "steps": str(agent.num_timesteps)}
    helper.set_model_props(model, facts)
    checker.check_model(model, full_check=True)
    return model


def _dtype(space: Space[Any]) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(space.dtype)))


class _Graph:
    """Nodes and constants of an ONNX graph as they are added; each method gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """A new node."""
        from onnx import helper

        name = out or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def constant(self, value: ArrayLike, dtype: Any = np.int64) -> str:
        """A new constant."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def normalized(self, x: str, statistics: RunningMeanStd | None) -> str:
        """What the network reads: as ``RunningMeanStd.normalize``, in float64."""
        from onnx import TensorProto

        if statistics is None:
            return x
        x = self.add("Cast", x, to=TensorProto.DOUBLE)
        x = self.add("Sub", x, self.constant(statistics.mean, np.float64))
        x = self.add("Div", x, self.constant(np.sqrt(statistics.var + 1e-8), np.float64))
        bounds = (self.constant(bound, np.float64) for bound in (-statistics.clip, statistics.clip))
        x = self.add("Clip", x, *bounds)
        return self.add("Cast", x, to=TensorProto.FLOAT)

    def layers(self, network: NativeNetwork, x: str) -> dict[int, str]:
        """The outputs of the network's last layers, by the first column that they fill."""
        outputs: list[str] = []
        last: dict[int, str] = {}
        for layer, offset in zip(network.plan.layers, network.plan.offsets, strict=True):
            middle, stop = offset + layer.inputs * layer.outputs, offset + (layer.inputs + 1) * layer.outputs
            weight = network.layer_params[offset:middle].reshape(layer.inputs, layer.outputs)
            y = self.add(
                "Gemm",
                x if layer.source < 0 else outputs[layer.source],
                self.constant(weight, np.float32),
                self.constant(network.layer_params[middle:stop], np.float32),
            )
            outputs.append(self.activated(layer.activation, y))
            if layer.column >= 0:
                last[layer.column] = outputs[-1]
        return last

    def memories(
        self, kind: str, activation: str, tensors: Mapping[str, NDArray[np.float32]], x: str
    ) -> tuple[dict[int, str], int]:
        """As :meth:`layers` for the actor's memory and the critic's, and the size of their state."""

        def linear(name: str, x: str, suffix: str = "") -> str:
            weight, bias = (
                self.constant(tensors[f"{name}{k}{suffix}"], np.float32) for k in ("weight", "bias")
            )
            return self.add("Gemm", x, weight, bias, transB=1)

        last, after, column, begin = {}, [], 0, 0
        for i, head in enumerate(("policy", "value")):
            y, rnn = x, f"memories.{i}.rnn."
            layers = [name for name in tensors if name.startswith(f"memories.{i}.trunk.")]
            for name in layers[::2]:
                y = self.activated(activation, linear(name.removesuffix("weight"), y))
            size = tensors[f"{rnn}weight_hh_l0"].shape[1]
            h = self.slice("state", begin, begin + size)
            a, b = linear(rnn, y, "_ih_l0"), linear(rnn, h, "_hh_l0")
            begin += size
            if kind == "lstm":
                h, cell = self.lstm(self.add("Add", a, b), self.slice("state", begin, begin + size), size)
                begin += size
                after += [h, cell]
            else:
                h = self.gru(a, b, h, size)
                after.append(h)
            last[column] = linear(f"{head}.", h)
            column += len(tensors["policy.bias"])
        self.add("Concat", *after, axis=1, out="next_state")
        return last, begin

    def lstm(self, gates: str, cell: str, size: int) -> tuple[str, str]:
        """Hidden and cell state of an LSTM, from its gates' pre-activations and its cell state."""
        take, forget, new, give = (
            self.add("Tanh" if i == 2 else "Sigmoid", self.slice(gates, i * size, (i + 1) * size))
            for i in range(4)
        )
        cell = self.add("Add", self.add("Mul", forget, cell), self.add("Mul", take, new))
        return self.add("Mul", give, self.add("Tanh", cell)), cell

    def gru(self, a: str, b: str, h: str, size: int) -> str:
        """Hidden state of a GRU, from the input's and its state's parts of the pre-activations."""
        gates = self.add("Sigmoid", self.add("Add", self.slice(a, 0, 2 * size), self.slice(b, 0, 2 * size)))
        r, z = self.slice(gates, 0, size), self.slice(gates, size, 2 * size)
        reset = self.add("Mul", r, self.slice(b, 2 * size, 3 * size))
        new = self.add("Tanh", self.add("Add", self.slice(a, 2 * size, 3 * size), reset))
        return self.add("Add", new, self.add("Mul", z, self.add("Sub", h, new)))

    def activated(self, activation: str, y: str) -> str:
        """A layer's activation."""
        match activation:
            case "none":
                return y
            case "silu":
                return self.add("Mul", y, self.add("Sigmoid", y))
        return self.add({"tanh": "Tanh", "relu": "Relu"}[activation], y)

    def action(self, distribution: Distribution, columns: str) -> tuple[str, str]:
        """The policy's output, ``logits`` or ``mean``, and the action: as ``mode`` of the distribution."""
        match distribution:
            case Categorical():
                logits = self.add("Identity", columns, out="logits")
                return logits, self.add("ArgMax", logits, axis=1)
            case MultiCategorical():
                logits = self.add("Identity", columns, out="logits")
                chosen = [
                    self.add("ArgMax", self.slice(logits, *ends), axis=1)
                    for ends in pairwise(np.cumsum([0, *distribution.sizes]))
                ]
                return logits, self.add("Concat", *chosen, axis=1)
            case DiagonalGaussian():
                mean = self.slice(columns, 0, distribution.size, out="mean")
                return mean, self.bounded(mean, distribution)
        raise ValueError(f"export: there is no ONNX form of {type(distribution).__name__} actions")

    def slice(self, x: str, begin: int, end: int, out: str | None = None) -> str:
        """Some columns."""
        return self.add("Slice", x, *(self.constant([n]) for n in (begin, end, 1)), out=out)

    def bounded(self, u: str, distribution: DiagonalGaussian) -> str:
        """Clipped or squashed into the bounds."""
        low, high = (self.constant(x, np.float32) for x in (distribution.low, distribution.high))
        if distribution.squash:
            half = self.constant((distribution.high - distribution.low) / 2, np.float32)
            raised = self.add("Add", self.add("Tanh", u), self.constant(1.0, np.float32))
            u = self.add("Add", self.add("Mul", raised, half), low)
        return self.add("Max", self.add("Min", u, high), low)

    def finish(self, action: str, space: Space[Any]) -> str:
        """``action`` as the environment takes it: its shape, first value and dtype."""
        action = self.add("Reshape", action, self.constant([-1, *(space.shape or ())]))
        action = self.add("Add", action, self.constant(space.start)) if hasattr(space, "start") else action
        action = self.add("Cast", action, to=_dtype(space))
        if isinstance(space, Box) and space.dtype != np.float32:  # as DiagonalGaussian.to_env
            low, high = (self.constant(x, space.dtype) for x in (space.low, space.high))
            action = self.add("Max", self.add("Min", action, high), low)
        return self.add("Identity", action, out="action")


def _compared(agent: Algorithm, parts: _Parts, model: bytes, observations: int, seed: int) -> float:
    """Largest difference between the model and the agent on random observations."""
    import onnxruntime

    policy, network, space = parts.policy, parts.network, parts.space
    rng = np.random.default_rng(seed)
    draws = 3.0 * rng.standard_normal((observations, *space.shape))
    obs = np.clip(draws, space.low, space.high).astype(space.dtype)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    flat = obs.reshape(observations, -1).astype(np.float32)
    if isinstance(policy, RecurrentPolicy):
        state = np.tanh(rng.standard_normal((observations, policy.network.state_size))).astype(np.float32)
        y, after = policy.network.step(policy.observe(obs), state)
        given = {"observation": flat, "state": state}
    else:
        state, y, after = None, network.infer(policy.observe(obs)), np.zeros((observations, 0), np.float32)
        given = {"observation": flat}
    columns, value, action, *states = session.run(None, given)
    got = np.concatenate([columns, value[:, None], *states], 1)
    wanted = np.concatenate([y[:, : columns.shape[1]], y[:, -1:], after], 1)
    difference = float(np.abs(got - wanted).max(initial=0.0))
    if not np.allclose(got, wanted, rtol=RTOL, atol=ATOL):
        raise ExportError(
            f"export: logits, means, states or values differ from the agent's by {difference:g}"
        )
    # an action that is not the agent's must be due to that difference: of two that are equally probable
    agents, _ = agent.predict(obs, state, deterministic=True)
    due = policy.distribution.to_env(policy.distribution.mode(columns))
    same = [np.isclose(action, other, rtol=RTOL, atol=ATOL) for other in (agents, due)]
    if wrong := int((~(same[0] | same[1])).reshape(observations, -1).any(axis=1).sum()):
        raise ExportError(f"export: {wrong} of {observations} actions differ from the agent's")
    return difference
