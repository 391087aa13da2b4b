"""DQN and QR-DQN with prioritized replay: their update beside SB3's, what prioritizes it, and learning."""

import copy

import numpy as np
import pytest
import torch

sb3 = pytest.importorskip("stable_baselines3")
contrib = pytest.importorskip("sb3_contrib")
from sb3_contrib.common.utils import quantile_huber_loss  # noqa: E402
from stable_baselines3.common.buffers import NStepReplayBuffer  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from stable_baselines3.common.logger import Logger  # noqa: E402
from stable_baselines3.common.type_aliases import ReplayBufferSamples  # noqa: E402

from fastrl.integrations.sb3 import PERDQN, PERQRDQN, PrioritizedReplayBuffer, ReplayBuffer  # noqa: E402
from fastrl.integrations.sb3.per_dqn import per_sample_quantile_huber  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*out of date")
PAIRS = [(PERDQN, sb3.DQN), (PERQRDQN, contrib.QRDQN)]


def trained(cls, steps=150, seed=0, env_id="CartPole-v1", **kwargs):
    settings = {"learning_starts": 50, "seed": seed, "device": "cpu", "batch_size": 16, **kwargs}
    return cls("MlpPolicy", make_vec_env(env_id, 2, seed=seed), **settings).learn(steps)


class Replayed:
    """A buffer that gives one batch, and keeps the priorities that come back."""

    beta, n_steps = 1.0, 1

    def __init__(self, batch):
        self.batch = batch

    def sample(self, *_, **__):
        return self.batch

    def update_priorities(self, indices, priorities):
        self.indices, self.priorities = indices, priorities


def updated(model, batch):
    """The model's parameters after an update on a batch; the buffer."""
    model.replay_buffer = Replayed(batch)
    model.set_logger(Logger(None, []))
    model.train(1, len(batch.rewards))
    return model.policy.state_dict(), model.replay_buffer


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("n_steps", [1, 3])
def test_without_priorities_an_update_is_sb3s(ours, theirs, n_steps):
    """To 1e-6 of the largest step: the mean is taken by another sum."""
    prioritized = trained(ours, n_steps=n_steps, replay_buffer_kwargs={"alpha": 0, "beta": 0})
    batch = prioritized.replay_buffer.sample(16, beta=0)
    assert (batch.weights == 1).all()
    assert (batch.discounts is None) == (n_steps == 1)
    plain = trained(theirs, n_steps=n_steps)
    plain.set_parameters(copy.deepcopy(prioritized.get_parameters()))
    before = {name: x.clone() for name, x in plain.policy.state_dict().items()}
    a, _ = updated(prioritized, batch)
    b, _ = updated(plain, ReplayBufferSamples(*batch[:6]))
    assert any(not torch.equal(before[name], b[name]) for name in b)
    for name in b:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_a_weight_scales_what_a_sample_does(ours, theirs):
    """With plain gradient descent a step is the weighted mean of the samples' own steps."""
    model = trained(
        ours, max_grad_norm=1e9, policy_kwargs={"optimizer_class": torch.optim.SGD}, learning_rate=0.1
    )
    batch = model.replay_buffer.sample(4)
    weights = torch.tensor([[1.0], [0.5], [0.25], [0.0]])
    start = copy.deepcopy(model.get_parameters())

    def step(batch):
        model.set_parameters(start)
        before = {name: x.clone() for name, x in model.policy.state_dict().items()}
        after, _ = updated(model, batch)
        return {name: after[name] - before[name] for name in before}

    def only(i):
        fields = [x if x is None else x[i : i + 1] for x in batch]
        return type(batch)(*fields)._replace(weights=torch.ones(1, 1))

    whole = step(batch._replace(weights=weights))
    parts = [step(only(i)) for i in range(4)]
    for name, moved in whole.items():
        expected = sum(w * part[name] for w, part in zip(weights[:, 0], parts, strict=True)) / 4
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)


def test_priorities_become_td_errors():
    model = trained(PERDQN, gamma=0.9)
    batch = model.replay_buffer.sample(16)
    with torch.no_grad():
        value = model.q_net_target(batch.next_observations).max(1).values
        target = batch.rewards[:, 0] + 0.9 * (1 - batch.dones[:, 0]) * value
        error = (target - model.q_net(batch.observations)[torch.arange(16), batch.actions[:, 0]]).abs()
    _, buffer = updated(model, batch)
    np.testing.assert_array_equal(buffer.indices, batch.indices)
    np.testing.assert_allclose(buffer.priorities, error, rtol=1e-5)


def test_priorities_become_quantile_losses():
    model = trained(PERQRDQN, gamma=0.9)
    batch = model.replay_buffer.sample(16)
    with torch.no_grad():
        following = model.quantile_net_target(batch.next_observations)
        best = following[torch.arange(16), :, following.mean(1).argmax(1)]
        target = batch.rewards + 0.9 * (1 - batch.dones) * best
        current = model.quantile_net(batch.observations)[torch.arange(16), :, batch.actions[:, 0]]
        expected = [quantile_huber_loss(x[None], y[None]) for x, y in zip(current, target, strict=True)]
    _, buffer = updated(model, batch)
    np.testing.assert_allclose(buffer.priorities, expected, rtol=1e-5)


def test_loss_is_that_of_sb3_contrib():
    rng = np.random.default_rng(0)
    current, target = torch.from_numpy(rng.standard_normal((2, 7, 11), np.float32) * 2)
    ours = per_sample_quantile_huber(current, target)
    torch.testing.assert_close(ours.mean(), quantile_huber_loss(current, target))


@pytest.mark.parametrize("cls", [PERDQN, PERQRDQN])
def test_trained_rows_have_priorities_and_beta_goes_to_1(cls):
    model = trained(cls, steps=600, replay_buffer_kwargs={"alpha": 1, "beta": 0.25, "eps": 0})
    leaves = model.replay_buffer.transitions.rows.state()["leaves"]
    assert len(np.unique(leaves)) > 100
    assert model.logger.name_to_value["train/beta"] == pytest.approx(1, abs=0.01)
    half = trained(cls, steps=300, replay_buffer_kwargs={"beta": 0.25})
    half._total_timesteps *= 2
    half._update_current_progress_remaining(half.num_timesteps, half._total_timesteps)
    half.train(1, 16)
    assert half.logger.name_to_value["train/beta"] == pytest.approx(0.625, abs=0.01)


@pytest.mark.parametrize("cls", [PERDQN, PERQRDQN])
def test_saved_models_go_on(cls, tmp_path):
    model = trained(cls, n_steps=3, replay_buffer_kwargs={"alpha": 0.7, "beta": 0.3})
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = cls.load(tmp_path / "model", env=make_vec_env("CartPole-v1", 2, seed=0), device="cpu")
    assert (loaded.n_steps, loaded.replay_buffer.n_steps, loaded.replay_buffer.beta) == (3, 3, 0.3)
    assert loaded.replay_buffer.size() == 0
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.replay_buffer.size() == model.replay_buffer.size()
    a, b = (x.replay_buffer.sample(64) for x in (model, loaded))
    np.testing.assert_array_equal(a.indices, b.indices)
    np.testing.assert_array_equal(a.weights, b.weights)
    obs = np.zeros((5, 4), np.float32)
    np.testing.assert_array_equal(
        model.predict(obs, deterministic=True)[0], loaded.predict(obs, deterministic=True)[0]
    )
    loaded.learn(40, reset_num_timesteps=False)


def test_n_steps_end_where_training_begins_again():
    model = trained(PERDQN, n_steps=3, steps=60)
    last = model.replay_buffer.pos - 1
    model.learn(20)
    rows = model.replay_buffer.transitions.rows
    assert (rows.gather(np.array([2 * last, 2 * last + 1]))["discount"] >= 0.99 - 1e-6).all()  # one step


def test_n_steps_end_where_a_loaded_model_begins(tmp_path):
    model = trained(PERDQN, n_steps=3, steps=60)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = PERDQN.load(tmp_path / "model", env=make_vec_env("CartPole-v1", 2, seed=0), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    last = loaded.replay_buffer.pos - 1
    loaded.learn(20, reset_num_timesteps=False)  # SB3 resets the environments: it has no last observation
    rows = loaded.replay_buffer.transitions.rows
    assert (rows.gather(np.array([2 * last, 2 * last + 1]))["discount"] >= 0.99 - 1e-6).all()  # one step


def test_a_model_loaded_with_another_discount_has_it_everywhere(tmp_path):
    model = trained(PERDQN, n_steps=3, replay_buffer_kwargs={"alpha": 0.5})
    assert model.replay_buffer_kwargs == {"alpha": 0.5}
    model.save(tmp_path / "model")
    env = make_vec_env("CartPole-v1", 2, seed=0)
    loaded = PERDQN.load(tmp_path / "model", env=env, device="cpu", gamma=0.5, n_steps=2)
    loaded.learn(60)
    batch = loaded.replay_buffer.sample(64)
    assert set(batch.discounts[:, 0].tolist()) <= {0.25, 0.5, 0.0}
    given = {"gamma": 0.75}  # the buffer's own
    loaded = PERDQN.load(tmp_path / "model", env=env, device="cpu", gamma=0.5, replay_buffer_kwargs=given)
    assert (loaded.replay_buffer.gamma, loaded.replay_buffer.n_steps) == (0.75, 3)


def test_other_buffers_are_refused(tmp_path):
    with pytest.raises(
        TypeError, match=r"PERDQN: the replay buffer must be a PrioritizedReplayBuffer, got ReplayBuffer"
    ):
        PERDQN("MlpPolicy", "CartPole-v1", replay_buffer_class=ReplayBuffer)
    model = trained(sb3.DQN, replay_buffer_class=ReplayBuffer)
    model.save_replay_buffer(tmp_path / "buffer")
    ours = trained(PERDQN)
    kept = ours.replay_buffer
    with pytest.raises(TypeError, match=r"must be a PrioritizedReplayBuffer, got ReplayBuffer"):
        ours.load_replay_buffer(tmp_path / "buffer")
    assert ours.replay_buffer is kept
    assert isinstance(kept, PrioritizedReplayBuffer)
    assert not isinstance(kept, NStepReplayBuffer)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_dict_observations_and_normalised_ones(n_steps):
    from gymnasium import ObservationWrapper, make, spaces
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    class Named(ObservationWrapper):
        def __init__(self, env):
            super().__init__(env)
            self.observation_space = spaces.Dict({"x": env.observation_space})

        def observation(self, observation):
            return {"x": observation}

    env = VecNormalize(DummyVecEnv([lambda: Named(make("CartPole-v1"))] * 2), norm_reward=False)
    model = PERDQN("MultiInputPolicy", env, learning_starts=20, device="cpu", n_steps=n_steps, seed=0).learn(
        64
    )
    assert model.replay_buffer.size() == 32
