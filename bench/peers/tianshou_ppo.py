"""PPO of Tianshou 2, through its trainer.

It differs from the setting where its interface leaves no choice: the value loss is the mean squared error,
not half of it; a last, smaller minibatch is merged into the one before.
"""

from contextlib import suppress

import _protocol
import gymnasium
import numpy as np
import torch
from tianshou.algorithm import PPO
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic


class Record(gymnasium.Wrapper):
    """Appends the returns of finished episodes to a list."""

    def __init__(self, env, finished) -> None:
        super().__init__(env)
        self.finished = finished

    def reset(self, **options):
        self.running = 0.0
        return self.env.reset(**options)

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.running += reward
        if terminated or truncated:
            self.finished.append(self.running)
        return obs, reward, terminated, truncated, info


class Stopped(Exception):
    pass


def trunk():
    return Net(state_shape=(4,), hidden_sizes=[64, 64], activation=torch.nn.Tanh)


def orthogonal(head, gain) -> None:
    layers = [x for x in head.modules() if isinstance(x, torch.nn.Linear)]
    for layer in layers:
        torch.nn.init.orthogonal_(layer.weight, gain if layer is layers[-1] else 2**0.5)
        torch.nn.init.zeros_(layer.bias)


class Tianshou:
    VERSIONS = _protocol.versions("tianshou", "torch", "gymnasium", "numpy")

    def __init__(self, setting, seed) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 the library shuffles by it
        self.setting = setting
        self.finished: list[float] = []
        make = [lambda: Record(gymnasium.make("CartPole-v1"), self.finished)] * setting.num_envs
        self.envs = DummyVectorEnv(make)
        self.envs.seed(seed)
        self.actor = DiscreteActor(preprocess_net=trunk(), action_shape=2, softmax_output=False)
        critic = DiscreteCritic(preprocess_net=trunk())
        orthogonal(self.actor, 0.01)
        orthogonal(critic, 1.0)
        self.algorithm = PPO(
            policy=DiscreteActorPolicy(actor=self.actor, action_space=gymnasium.spaces.Discrete(2)),
            critic=critic,
            optim=AdamOptimizerFactory(lr=setting.learning_rate, eps=1e-5),
            eps_clip=setting.clip_coef,
            vf_coef=setting.vf_coef,
            ent_coef=setting.ent_coef,
            max_grad_norm=setting.max_grad_norm,
            gae_lambda=setting.gae_lambda,
            gamma=setting.gamma,
            max_batchsize=setting.batch_size,
        )

    def warm_up(self) -> None:
        state = torch.get_rng_state()
        other = Tianshou(self.setting, seed=12345)
        other.train(other.setting.batch_size)
        torch.set_rng_state(state)

    def learn(self, stop=None) -> None:
        self.train(self.setting.total_timesteps, stop)

    def train(self, total_timesteps, stop=None) -> None:
        def check(epoch, env_step) -> None:
            if stop is not None and stop(self.finished):
                raise Stopped

        setting = self.setting
        buffer = VectorReplayBuffer(setting.batch_size, setting.num_envs)
        parameters = OnPolicyTrainerParams(
            max_epochs=1,
            epoch_num_steps=total_timesteps,
            training_collector=Collector(self.algorithm, self.envs, buffer),
            collection_step_num_env_steps=setting.batch_size,
            update_step_num_repetitions=setting.update_epochs,
            batch_size=setting.minibatch_size,
            training_fn=check,
            verbose=False,
            show_progress=False,
        )
        with suppress(Stopped):
            self.algorithm.run_training(parameters)

    def returns(self):
        return self.finished

    def act(self, obs):
        with torch.no_grad():
            return self.actor(torch.as_tensor(obs))[0].argmax(1).numpy()


if __name__ == "__main__":
    _protocol.main(Tianshou)
