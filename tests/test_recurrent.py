"""Policies with a memory: states in rollouts, predictions and training, against plain steps in float64."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import fastrl
from fastrl.distributions import Categorical
from fastrl.evaluate import evaluate
from fastrl.networks import NetworkOptions
from fastrl.observations import Encoder
from fastrl.policies import build_network
from fastrl.recurrent import EnvironmentSequences
from fastrl.torch_gru import gru
from fastrl.torch_recurrent import stretches

SMALL = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "hidden": (8,), "recurrent_size": 8}
LIMIT = 11  # so that episodes end inside sequences, by truncation and by termination
KINDS = ["lstm", "gru"]
TWO = Categorical(spaces.Discrete(2))


def agent_of(kind, env="CartPole-v1", **options):
    agent = fastrl.PPO(env, recurrent=kind, seed=0, **{**SMALL, **options})
    params = agent.policy.network.params
    params += np.random.default_rng(0).standard_normal(params.size).astype(np.float32) * 0.3
    return agent


def vector(mode, n=4, limit=LIMIT):
    makers = [lambda: gymnasium.make("CartPole-v1", max_episode_steps=limit)] * n
    return SyncVectorEnv(makers, autoreset_mode=mode)


def plain_step(tensors, obs, state):
    """The actor's and the critic's LSTM or GRU written out; y and the next state of [B, ...] observations."""
    sigmoid, tanh, outputs, states = torch.sigmoid, torch.tanh, [], []
    for i, (head, part) in enumerate(zip(("policy", "value"), state.chunk(2, 1), strict=True)):

        def get(name, i=i):
            return tensors[f"memories.{i}.{name}"]

        x = tanh(obs @ get("trunk.0.weight").T + get("trunk.0.bias"))
        a = x @ get("rnn.weight_ih_l0").T + get("rnn.bias_ih_l0")
        size = get("rnn.weight_hh_l0").shape[1]
        h = part[:, :size]
        b = h @ get("rnn.weight_hh_l0").T + get("rnn.bias_hh_l0")
        if len(b[0]) == 4 * size:
            input_, forget, new, output = (a + b).chunk(4, 1)
            cell = sigmoid(forget) * part[:, size:] + sigmoid(input_) * tanh(new)
            h = sigmoid(output) * tanh(cell)
            states += [h, cell]
        else:
            (r, z, n), (r_h, z_h, n_h) = a.chunk(3, 1), b.chunk(3, 1)
            z = sigmoid(z + z_h)
            h = (1 - z) * tanh(n + sigmoid(r + r_h) * n_h) + z * h
            states.append(h)
        outputs.append(h @ tensors[f"{head}.weight"].T + tensors[f"{head}.bias"])
    return torch.cat(outputs, 1), torch.cat(states, 1)


def doubles(network, requires_grad=False):
    return {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=requires_grad)
        for name, value in network.named_tensors().items()
    }


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", KINDS)
def test_rollouts_are_plain_steps_from_zero_in_every_episode(kind, mode):
    """Values, log-probabilities and bootstraps, over batches, in every autoreset mode."""
    agent = agent_of(kind, vector(mode), num_steps=25, minibatch_size=100)
    tensors, source = doubles(agent.policy.network), agent.source
    finals, cuts, row = {}, 0, 0

    def remember(data):
        done = data["terminated"] | data["truncated"]
        for n in np.flatnonzero(done) if mode is AutoresetMode.SAME_STEP else []:
            finals[row, n] = data["info"]["final_obs"][n]

    state, begins = torch.zeros(4, agent.policy.network.state_size).double(), np.zeros(4, bool)
    for _ in range(3):
        finals.clear()
        row = 0

        def on_step(data):
            nonlocal row
            remember(data)
            row += 1

        source.on_step = on_step
        batch = source.next()
        valid = np.ones((25, 4), bool) if batch.valid is None else batch.valid
        for t in range(25):
            state = torch.where(torch.tensor(begins)[:, None], 0.0, state)
            y, state = plain_step(tensors, torch.tensor(batch.obs[t]).double(), state)
            np.testing.assert_allclose(batch.value[t], y[:, 2], rtol=1e-5, atol=1e-5)
            log_prob = torch.log_softmax(y[:, :2], 1)[torch.arange(4), torch.tensor(batch.action[t])]
            np.testing.assert_allclose(batch.log_prob[t], log_prob, rtol=1e-5, atol=1e-5)
            ended = (batch.terminated[t] | batch.truncated[t]) & valid[t]
            for n in np.flatnonzero(ended & ~batch.terminated[t]):
                cuts += 1
                if mode is AutoresetMode.SAME_STEP:
                    final = finals[t, n]
                elif mode is AutoresetMode.NEXT_STEP and t + 1 < 25:
                    final = batch.obs[t + 1, n]
                else:
                    continue
                wanted, _ = plain_step(tensors, torch.tensor(final)[None].double(), state[n : n + 1])
                np.testing.assert_allclose(batch.next_value[t, n], wanted[0, 2], rtol=1e-5, atol=1e-5)
            begins = ended if mode is not AutoresetMode.NEXT_STEP else ~valid[t]
            if t + 1 < 25:
                np.testing.assert_array_equal(batch.start[t + 1], begins)
    assert cuts > 10


def test_same_step_and_disabled_give_one_batch():
    """A mode that names its final observations checks the one that does not."""
    a, b = (
        agent_of("lstm", vector(mode), num_steps=40, minibatch_size=160).source
        for mode in (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)
    )
    for _ in range(2):
        first, second = a.next(), b.next()
        for name in ("obs", "action", "value", "next_value", "start", "truncated"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", KINDS)
def test_training_reproduces_the_rollout(kind, mode):
    agent = agent_of(kind, vector(mode))
    for turn in range(3):
        batch = agent.source.next()
        rng = np.random.default_rng(turn)
        for obs, action, log_prob, _, _, value in agent.minibatches.epoch(
            batch, batch.value, batch.value, rng
        ):
            y, _ = agent.policy.network.forward(obs)
            np.testing.assert_allclose(agent.policy.network.infer(obs), y, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(y[:, -1], value, rtol=1e-5, atol=1e-5)
            again = torch.log_softmax(torch.tensor(y[:, :-1]), 1)[np.arange(len(action)), action]
            np.testing.assert_allclose(again, log_prob, rtol=1e-5, atol=1e-5)
        assert turn == 0 or batch.state.any()
        agent.update(batch)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_a_minibatch_equals_torch(kind, monkeypatch):
    agent = agent_of(kind, vector(AutoresetMode.SAME_STEP), num_steps=40, minibatch_size=120)
    agent.source.next()
    batch = agent.source.next()
    rng = np.random.default_rng(1)
    network = agent.policy.network
    target = rng.standard_normal((2, *batch.value.shape)).astype(np.float32)
    fields = next(iter(agent.minibatches.epoch(batch, *target, rng)))
    fields[2] = (fields[2] + rng.normal(0, 0.3, 120)).astype(np.float32)
    seen = {}
    monkeypatch.setattr(
        agent.optimizer, "step", lambda *_: seen.setdefault("grad", network.grad.copy()) is None
    )
    agent.minibatch(*fields)

    obs, action, old_log_prob, advantage, return_, _ = fields
    assert obs.start.any()
    assert obs.state.any()
    tensors = doubles(network, requires_grad=True)
    state, outputs = torch.tensor(obs.state).double(), []
    for x, start in zip(obs.obs, obs.start, strict=True):
        y, state = plain_step(
            tensors, torch.tensor(x).double(), torch.where(torch.tensor(start)[:, None], 0.0, state)
        )
        outputs.append(y)
    y = torch.cat(outputs)
    distribution = torch.distributions.Categorical(logits=y[:, :2])
    advantage = torch.tensor(advantage).double()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = (distribution.log_prob(torch.tensor(action)) - torch.tensor(old_log_prob)).exp()
    loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)).mean()
    loss = (
        loss + 0.25 * ((y[:, 2] - torch.tensor(return_)) ** 2).mean() - 0.01 * distribution.entropy().mean()
    )
    loss.backward()
    expected = np.concatenate([tensors[name].grad.numpy().ravel() for name in network.named_tensors()])
    assert np.linalg.norm(seen["grad"] - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("steps", "rows", "rate"), [(1, 1, 0.0), (1, 3, 1.0), (9, 1, 0.3), (12, 5, 0.1), (6, 2, 1.0)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_sequences_equal_steps(kind, steps, rows, rate):
    """Outputs and gradients, the state's included, of the fused sequence and of the module step by step."""
    space = spaces.Box(-1, 1, (3,), np.float32)
    options = NetworkOptions(recurrent=kind, recurrent_size=5, hidden=(4,))
    module = build_network(Encoder(space), TWO, options, np.random.SeedSequence(0)).module.double()
    rng = np.random.default_rng(0)
    obs, start = (
        torch.tensor(rng.standard_normal((steps, rows, 3))),
        torch.tensor(rng.random((steps, rows)) < rate),
    )
    weight = torch.tensor(rng.standard_normal((steps, rows, 3)))
    gradients = []
    for fused in (True, False):
        state = torch.tensor(
            np.random.default_rng(1).standard_normal((rows, module.recurrent_state_size)), requires_grad=True
        )
        if fused:
            y = module.sequence(obs, state, start)
        else:
            now, outputs = state, []
            for x, begins in zip(obs, start, strict=True):
                out, now = module(x, torch.where(begins[:, None], 0.0, now))
                outputs.append(out)
            y = torch.stack(outputs)
        gradients.append([y, *torch.autograd.grad((y * weight).sum(), [state, *module.parameters()])])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_gru_gradients_numerically():
    rng = np.random.default_rng(0)
    shapes = (4, 3, 6), (6, 2), (6,), (3, 2)
    arguments = [torch.tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]
    start = torch.tensor(rng.random((4, 3)) < 0.4)
    assert torch.autograd.gradcheck(lambda *tensors: gru(*tensors, start), arguments)


def test_stretches():
    start = np.zeros((6, 2), bool)
    assert list(stretches(start)) == [(0, 6)]
    start[0, 0] = start[2, 1] = start[5, 0] = True
    assert list(stretches(start)) == [(0, 2), (2, 5), (5, 6)]


def test_minibatches_hold_whole_environments():
    agent = agent_of("lstm", num_envs=5, minibatch_size=47)
    batch = agent.source.next()
    tag = np.arange(16 * 5, dtype=np.float32).reshape(16, 5)
    minibatches = list(agent.minibatches.epoch(batch, tag, tag, np.random.default_rng(0)))
    assert [len(fields[3]) for fields in minibatches] == [32, 32, 16]
    seen = [fields[3].reshape(16, -1) for fields in minibatches]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen, 1)[0]), np.arange(5))
    for (obs, *_), tags in zip(minibatches, seen, strict=True):
        envs = tags[0].astype(int)
        np.testing.assert_array_equal(tags, tag[:, envs])
        np.testing.assert_array_equal(obs.obs, batch.obs[:, envs])
        np.testing.assert_array_equal(obs.state, batch.state[envs])
    with pytest.raises(
        ValueError, match=r"must be >= num_steps = 16 for a policy with a memory, which .* got 15$"
    ):
        EnvironmentSequences(15, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_predict_carries_the_state(kind):
    """A loop of predictions, episode_start given or not, is the policy step by step; as in sb3-contrib."""
    agent = agent_of(kind)
    tensors = doubles(agent.policy.network)
    obs = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32)
    state, plain = None, torch.zeros(3, agent.policy.network.state_size).double()
    start = np.zeros(3, bool)
    for t, row in enumerate(obs):
        y, plain = plain_step(
            tensors, torch.tensor(row).double(), torch.where(torch.tensor(start)[:, None], 0.0, plain)
        )
        action, state = agent.predict(row, state, start if t else None, deterministic=True)
        np.testing.assert_array_equal(action, y[:, :2].argmax(1))
        np.testing.assert_allclose(state, plain, rtol=1e-5, atol=1e-6)
        start = np.array([False, t == 2, True])
    one, alone = agent.predict(obs[0, 0], deterministic=True)
    assert one.shape == ()
    assert alone.shape == (1, agent.policy.network.state_size)
    _, same = agent.predict(obs[0, 0], alone, np.True_, deterministic=True)
    np.testing.assert_array_equal(same, alone)
    assert agent.predict(obs[0])[1].shape == state.shape
    with pytest.raises(
        ValueError, match=r"predict: state must be float32 \[3, \d+\], got float32 \[1, \d+\]"
    ):
        agent.predict(obs[0], alone)
    with pytest.raises(ValueError, match=r"episode_start must be bool \[3\], got float64 \[3\]"):
        agent.predict(obs[0], state, np.zeros(3))


def test_evaluation_is_a_loop_of_predictions():
    agent = agent_of("lstm").learn(128)
    returns = []
    for seed in range(3):
        env, state, done = gymnasium.make("CartPole-v1"), None, False
        obs, _ = env.reset(seed=1_000_000 + seed)
        returns.append(0.0)
        while not done:
            action, state = agent.predict(obs, state, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            returns[-1] += reward
            done = terminated or truncated
    np.testing.assert_array_equal(evaluate(agent, 3).episode_return, returns)


@pytest.mark.parametrize("kind", KINDS)
def test_resumes_bit_for_bit(kind, tmp_path):
    straight = fastrl.PPO("CartPole-v1", recurrent=kind, **SMALL, total_timesteps=512).learn()
    half = fastrl.PPO("CartPole-v1", recurrent=kind, **SMALL, total_timesteps=512)
    half.learn(callback=lambda agent, _: agent.num_timesteps < 256)
    resumed = fastrl.PPO.load(half.save(tmp_path / "agent"))
    assert resumed.source.state()["memory"].any()
    resumed.learn()
    np.testing.assert_array_equal(resumed.policy.network.params, straight.policy.network.params)
    np.testing.assert_array_equal(resumed.source.state()["memory"], straight.source.state()["memory"])


def test_environments_that_restart_on_resume_forget(tmp_path):
    agent = agent_of("gru", vector(AutoresetMode.SAME_STEP)).learn(64)
    other = fastrl.PPO.load(agent.save(tmp_path / "agent"), vector(AutoresetMode.SAME_STEP))
    assert "memory" not in agent.source.state()
    assert not other.source.next().state.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "native"}, "engine='native' cannot run recurrent='lstm'; engine='torch' does"),
        ({"compile": True}, "compile=True cannot run a network with a memory"),
        ({"minibatch_size": 15}, "minibatch_size must be >= num_steps = 16 .*, got 15"),
        ({"recurrent": "rnn"}, "recurrent must be none, lstm or gru, got 'rnn'"),
        ({"recurrent_size": 0}, "recurrent_size must be >= 1, got 0"),
    ],
)
def test_bad_configuration(options, message):
    with pytest.raises(ValueError, match=message):
        fastrl.PPO("CartPole-v1", **{**SMALL, "recurrent": "lstm", **options})
