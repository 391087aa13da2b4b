"""Export of a trained policy to ONNX, built from the native network's layers: no torch needed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from fastrl import __version__, extras
from fastrl.algorithms.base import Algorithm
from fastrl.distributions import Categorical
from fastrl.networks import NativeNetwork
from fastrl.normalize import RunningMeanStd
from fastrl.policies import ActorCritic

OPSET, IR_VERSION = 17, 8  # of 2022, so that runtimes of some age read them
RTOL, ATOL = 1e-4, 1e-5
"""How far the ONNX model's logits and values may be from the agent's."""


class ExportError(RuntimeError):
    """The ONNX model does not do what the agent does; no file was written."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What ``export_onnx`` wrote."""

    path: Path
    max_difference: float
    """Largest absolute difference of logits and values from the agent's, over the observations tried."""
    observations: int
    """How many were tried."""


def export_onnx(agent: Algorithm, path: Path | str, *, observations: int = 1000, seed: int = 0) -> Exported:
    """Write the agent's policy as an ONNX model, after comparing it with the agent.

    Input ``observation``, float32 [N, D]: the environment's observations, flattened; where the agent
    normalises observations, the model does. Outputs ``logits`` float32 [N, A], ``value`` float32 [N], and
    ``action`` int64 [N], the deterministic action as the environment takes it.

    The model runs in onnxruntime on random observations before the file is put in place: logits and values
    must be close to the agent's, actions equal to those of ``agent.predict(..., deterministic=True)`` unless
    two are equally probable within that tolerance.

    Args:
        agent: with a native network, Box observations and Discrete actions.
        path: the file; an older one is replaced.
        observations: how many to try.
        seed: of the observations.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        ValueError: an agent that cannot be exported, and why.
        ExportError: the model differs from the agent.
    """
    extras.require("onnx", "export")
    parts = _parts(agent)
    model: bytes = _model(agent, parts).SerializeToString()
    difference = _compared(agent, parts, model, observations, seed)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(model)
    return Exported(temporary.replace(path), difference, observations)


class _Parts(NamedTuple):
    policy: ActorCritic
    network: NativeNetwork
    distribution: Categorical
    space: Box


def _parts(agent: Algorithm) -> _Parts:
    policy = getattr(agent, "policy", None)
    if not isinstance(policy, ActorCritic):
        raise ValueError(f"export: {agent.name()} has no actor-critic policy")
    network, distribution, space = policy.network, policy.distribution, agent.env.single_observation_space
    if not isinstance(network, NativeNetwork):
        raise ValueError("export: the network is torch's: export it with torch.onnx")
    if not isinstance(distribution, Categorical):
        raise ValueError(f"export: actions must be Discrete, got {agent.env.single_action_space}")
    if not isinstance(space, Box):
        raise ValueError(f"export: observations must be a Box, got {space}")
    return _Parts(policy, network, distribution, space)


def _model(agent: Algorithm, parts: _Parts) -> Any:
    from onnx import TensorProto, checker, helper

    inputs, columns = parts.network.plan.inputs, parts.distribution.columns
    graph = _Graph()
    last = graph.layers(parts.network, graph.normalized("observation", parts.policy.normalizer))
    graph.add("Identity", last[0], out="logits")
    graph.add("Squeeze", last[columns], graph.constant("last_axis", np.array([1])), out="value")
    chosen = graph.add("ArgMax", "logits", axis=1, keepdims=0)
    first = np.array(parts.distribution.space.start, np.int64)
    graph.add("Add", chosen, graph.constant("first_action", first), out="action")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"{agent.name()} on {agent.env_id}",
            [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", inputs])],
            [
                helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", columns]),
                helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N"]),
                helper.make_tensor_value_info("action", TensorProto.INT64, ["N"]),
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


class _Graph:
    """Nodes and constants of an ONNX graph as they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        """Name of the output of a new node."""
        from onnx import helper

        name = out or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Name of a new constant."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def normalized(self, x: str, statistics: RunningMeanStd | None) -> str:
        """What the network reads: as ``RunningMeanStd.normalize``, in float64."""
        from onnx import TensorProto

        if statistics is None:
            return x
        x = self.add("Cast", x, to=TensorProto.DOUBLE)
        x = self.add("Sub", x, self.constant("mean", statistics.mean))
        x = self.add("Div", x, self.constant("std", np.sqrt(statistics.var + 1e-8)))
        bounds = [self.constant(name, np.array(bound)) for name, bound in (("low", -10.0), ("high", 10.0))]
        return self.add("Cast", self.add("Clip", x, *bounds), to=TensorProto.FLOAT)

    def layers(self, network: NativeNetwork, x: str) -> dict[int, str]:
        """Names of the outputs of the network's last layers, by the first column that they fill."""
        outputs: list[str] = []
        last: dict[int, str] = {}
        for i, (layer, offset) in enumerate(zip(network.plan.layers, network.plan.offsets, strict=True)):
            middle, stop = offset + layer.inputs * layer.outputs, offset + (layer.inputs + 1) * layer.outputs
            weight = network.layer_params[offset:middle].reshape(layer.inputs, layer.outputs)
            y = self.add(
                "Gemm",
                x if layer.source < 0 else outputs[layer.source],
                self.constant(f"weight_{i}", weight),
                self.constant(f"bias_{i}", network.layer_params[middle:stop]),
            )
            outputs.append(self._activated(layer.activation, y))
            if layer.column >= 0:
                last[layer.column] = outputs[-1]
        return last

    def _activated(self, activation: str, y: str) -> str:
        match activation:
            case "none":
                return y
            case "silu":
                return self.add("Mul", y, self.add("Sigmoid", y))
        return self.add({"tanh": "Tanh", "relu": "Relu"}[activation], y)


def _compared(agent: Algorithm, parts: _Parts, model: bytes, observations: int, seed: int) -> float:
    """Largest difference between the model and the agent on random observations."""
    import onnxruntime

    space, policy = parts.space, parts.policy
    draws = 3.0 * np.random.default_rng(seed).standard_normal((observations, *space.shape))
    obs = np.clip(draws, space.low, space.high).astype(space.dtype)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    flat = obs.reshape(observations, -1).astype(np.float32)
    logits, value, action = session.run(["logits", "value", "action"], {"observation": flat})
    y = parts.network.infer(policy.observe(obs))
    got = np.concatenate([logits, value[:, None]], 1)
    difference = float(np.abs(got - y).max(initial=0.0))
    if not np.allclose(got, y, rtol=RTOL, atol=ATOL):
        raise ExportError(f"export: logits or values differ from the agent's by {difference:g}")
    wanted, _ = agent.predict(obs, deterministic=True)
    second, first = np.sort(y[:, :-1], axis=1)[:, -2:].T if y.shape[1] > 2 else (-np.inf, 0.0)
    tied = np.isclose(first, second, rtol=RTOL, atol=ATOL)
    if wrong := int(((action != wanted) & ~tied).sum()):
        raise ExportError(f"export: {wrong} of {observations} actions differ from the agent's")
    return difference
