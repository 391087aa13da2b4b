"""ONNX export: the model is the agent for every network, space and normalisation; otherwise no file."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

import fastrl
from fastrl import export, extras
from fastrl.cli import main
from fastrl.export import ExportError, export_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
SMALL = {"num_envs": 2, "num_steps": 16, "minibatch_size": 32, "hidden": (8,)}


class Spaces(gymnasium.Env):
    """Draws observations and ends now and then; only its spaces matter."""

    def __init__(self, observation_space=Box(-5.0, 5.0, (3,), np.float32), action_space=Discrete(4)):  # noqa: B008
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return self.observation_space.sample(), 1.0, False, bool(np.sum(action) > 0), {}


def agent_of(*spaces, **fields):
    return fastrl.PPO(lambda: Spaces(*spaces), **{**SMALL, **fields}).learn(64)


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def agent():
    return fastrl.PPO("CartPole-v1", **SMALL).learn(64)


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
@pytest.mark.parametrize("hidden", [(), (16,), (33, 7, 20)])
def test_model_is_the_agent(activation, hidden, tmp_path):
    agent = agent_of(activation=activation, hidden=hidden)
    done = export_onnx(agent, tmp_path / "policy.onnx")
    assert done.max_difference < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["policy.onnx"]
    model = session(done.path)
    for n in (1, 7):
        obs = np.random.default_rng(n).uniform(-5, 5, (n, 3)).astype(np.float32)
        logits, value, action = model.run(["logits", "value", "action"], {"observation": obs})
        assert (logits.shape, value.shape, action.shape) == ((n, 4), (n,), (n,))
        np.testing.assert_allclose(
            np.c_[logits, value], agent.policy.network.infer(obs), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_array_equal(action, agent.predict(obs, deterministic=True)[0])


@pytest.mark.parametrize(
    "space",
    [
        Box(-1e3, 1e3, (3,), np.float64),
        Box(-5.0, 5.0, (2, 3), np.float32),
        Box(0, 255, (5,), np.uint8),
        Box(-np.inf, np.inf, (1,), np.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("normalize_obs", [False, True])
def test_observation_spaces(space, normalize_obs, tmp_path):
    agent = agent_of(space, normalize_obs=normalize_obs)
    done = export_onnx(agent, tmp_path / "policy.onnx")
    assert done.max_difference < 1e-4
    obs = space.sample()
    action = session(done.path).run(["action"], {"observation": obs.reshape(1, -1).astype(np.float32)})[0]
    assert action[0] == agent.predict(obs, deterministic=True)[0]


def test_normalisation_is_in_the_model_up_to_its_clipping(tmp_path):
    agent = agent_of(normalize_obs=True)
    agent.policy.normalizer.mean[:] = 300.0, -2.0, 0.0
    agent.policy.normalizer.var[:] = 1e-6, 1e4, 0.0
    model = session(export_onnx(agent, tmp_path / "policy.onnx").path)
    obs = np.array([[300.001, 50.0, 0.0], [-1e6, 1e6, 1.0]], np.float32)
    np.testing.assert_allclose(
        model.run(["value"], {"observation": obs})[0],
        agent.policy.value(agent.policy.observe(obs)),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("space", "fields"),
    [
        (Discrete(3, start=10), {}),
        (Discrete(1), {}),
        (MultiDiscrete([3, 2, 5], start=[0, 7, -1]), {}),
        (MultiDiscrete([[2, 3], [4, 2]]), {}),
        (MultiBinary(3), {}),
        (Box(-0.01, np.array([0.01, np.inf, 2.0], np.float32), (3,), np.float32), {}),
        (Box(-0.01, 0.01, (2, 2), np.float64), {}),
        (Box(0.7, 0.9, (2,), np.float64), {}),  # the float32 number next to 0.7 is smaller
        (Box(-2.0, np.array([3.0, 1e-3], np.float32), (2,), np.float32), {"squash_actions": True}),
        (Box(-2.0, 2.0, (2,), np.float32), {"squash_actions": True, "state_dependent_std": True}),
    ],
    ids=str,
)
def test_action_spaces(space, fields, tmp_path):
    agent = agent_of(Box(-5.0, 5.0, (3,), np.float32), space, **fields)
    done = export_onnx(agent, tmp_path / "policy.onnx")
    assert done.max_difference < 1e-5
    obs = np.random.default_rng(0).uniform(-5, 5, (50, 3)).astype(np.float32)
    action = session(done.path).run(["action"], {"observation": obs})[0]
    wanted = agent.predict(obs, deterministic=True)[0]
    assert (action.dtype, action.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_allclose(action, wanted, rtol=1e-5, atol=1e-6)
    assert all(space.contains(row) for row in action)


def test_outputs_are_named_by_what_they_are(agent, tmp_path):
    gaussian = agent_of(Box(-5.0, 5.0, (3,), np.float32), Box(-1.0, 1.0, (2,), np.float32))
    for one, name in ((agent, "logits"), (gaussian, "mean")):
        outputs = session(export_onnx(one, tmp_path / "policy.onnx").path).get_outputs()
        assert [output.name for output in outputs] == [name, "value", "action"]


def test_both_executors_of_an_mlp_give_one_model(tmp_path):
    native, ours = (agent_of(engine=engine) for engine in ("native", "torch"))
    ours.network.params[:] = native.network.params
    one, other = (export_onnx(a, tmp_path / f"{i}.onnx").path for i, a in enumerate((native, ours)))
    assert one.read_bytes() == other.read_bytes()


def test_model_says_what_it_is(agent, tmp_path):
    model = onnx.load(export_onnx(agent, tmp_path / "policy.onnx").path)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts == {"algorithm": "PPO", "env": "CartPole-v1", "steps": "64"}
    assert (model.producer_name, model.producer_version) == ("fastrl", fastrl.__version__)


@pytest.mark.parametrize(
    ("op", "wrong", "message"),
    [("Tanh", "Sin", "values differ from the agent's by"), ("ArgMax", "ArgMin", "1000 of 1000 actions")],
)
def test_a_model_that_differs_is_not_left_in_place(op, wrong, message, agent, tmp_path, monkeypatch):
    add = export._Graph.add

    def broken(graph, given, *inputs, **attributes):
        return add(graph, wrong if given == op else given, *inputs, **attributes)

    path = tmp_path / "policy.onnx"
    path.write_bytes(b"older")
    monkeypatch.setattr(export._Graph, "add", broken)
    with pytest.raises(ExportError, match=message):
        export_onnx(agent, path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_exported_is_said(agent, tmp_path, monkeypatch):
    path = tmp_path / "policy.onnx"
    with pytest.raises(ValueError, match="observations must be a Box, got Dict"):
        export_onnx(agent_of(Dict(a=Box(-1.0, 1.0, (2,), np.float32))), path)
    if extras.find_spec("torch") is not None:
        with pytest.raises(ValueError, match=r"export it with torch\.onnx"):
            export_onnx(agent_of(Box(0, 255, (44, 44, 3), np.uint8)), path)
    with pytest.raises(ValueError, match=r"export: .* must be a file in a folder that exists"):
        export_onnx(agent, tmp_path)
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    with pytest.raises(extras.MissingExtraError, match=r"needs onnxruntime \(extra \[onnx\]\): pip install"):
        export_onnx(agent, path)
    assert list(tmp_path.iterdir()) == []


def test_command(agent, tmp_path, capsys):
    run = agent.save(tmp_path / "agent")
    file = tmp_path / "policy.onnx"
    assert main(["export", str(run), "--onnx", str(file)]) == 0
    out = capsys.readouterr().out
    assert f"{file}: max difference " in out
    assert "on 1,000 random observations" in out
    assert session(file).run(["action"], {"observation": np.zeros((3, 4), np.float32)})[0].shape == (3,)
    assert main(["export", str(run), "--onnx", str(tmp_path / "no" / "policy.onnx")]) == 2
    assert "must be a file in a folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("space", [Discrete(3, start=2), Box(-0.1, 0.1, (2,), np.float32)], ids=str)
def test_recurrent_models_carry_their_state(kind, space, tmp_path):
    box = Box(-5.0, 5.0, (3,), np.float32)
    agent = agent_of(box, space, recurrent=kind, recurrent_size=6, activation="silu", normalize_obs=True)
    done = export_onnx(agent, tmp_path / "policy.onnx")
    assert done.max_difference < 1e-5
    model, state = session(done.path), None
    carried = np.zeros((4, agent.policy.network.state_size), np.float32)
    for t in range(5):
        obs = np.random.default_rng(t).uniform(-5, 5, (4, 3)).astype(np.float32)
        wanted, state = agent.predict(obs, state, deterministic=True)
        given = {"observation": obs, "state": carried}
        action, carried = model.run(["action", "next_state"], given)
        np.testing.assert_allclose(action, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(carried, state, rtol=1e-4, atol=1e-6)


def test_recurrent_models_that_cannot_be_exported(tmp_path):
    images = agent_of(Box(0, 255, (44, 44, 3), np.uint8), recurrent="gru")
    with pytest.raises(ValueError, match=r"the network is torch's: export it with torch\.onnx"):
        export_onnx(images, tmp_path / "policy.onnx")
