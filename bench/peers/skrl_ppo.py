"""PPO of skrl, with its sequential trainer on Gymnasium's vector environment.

It differs from the setting where its interface leaves no choice: advantages are normalised by batch, not by
minibatch; the value loss is the mean squared error, not half of it. Time limits count as termination: its
`time_limit_bootstrap=True` takes the value of the next episode's first observation instead of the final one.
"""

from contextlib import suppress

import _protocol
import gymnasium
import torch
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from torch import nn


def layer(inputs, outputs, gain=2**0.5):
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


def mlp(outputs, gain):
    return nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, outputs, gain))


class Policy(CategoricalMixin, Model):
    def __init__(self, spaces) -> None:
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.net = mlp(2, 0.01)

    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {}


class Value(DeterministicMixin, Model):
    def __init__(self, spaces) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = mlp(1, 1.0)

    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {}


class Stopped(Exception):
    pass


class StoppablePPO(PPO):
    stop = None

    def post_interaction(self, **step) -> None:
        super().post_interaction(**step)
        if self.stop is not None and self.stop():
            raise Stopped


class Terminates(gymnasium.vector.VectorWrapper):
    """Time limits as terminations, as the agent takes a truncation for the middle of an episode."""

    def step(self, actions):
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return obs, reward, terminated | truncated, truncated, info


class Skrl:
    VERSIONS = _protocol.versions("skrl", "torch", "gymnasium", "numpy")

    def __init__(self, setting, seed) -> None:
        torch.set_num_threads(1)
        set_seed(seed)
        self.setting = setting
        mode = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        envs = gymnasium.make_vec(
            "CartPole-v1", setting.num_envs, vectorization_mode="sync", vector_kwargs=mode
        )
        self.recorded = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
        self.env = wrap_env(Terminates(self.recorded), wrapper="gymnasium", verbose=False)
        spaces = {
            "observation_space": self.env.observation_space,
            "action_space": self.env.action_space,
            "device": "cpu",
        }
        self.agent = StoppablePPO(
            models={"policy": Policy(spaces), "value": Value(spaces)},
            memory=RandomMemory(memory_size=setting.num_steps, num_envs=setting.num_envs, device="cpu"),
            cfg={
                "rollouts": setting.num_steps,
                "learning_epochs": setting.update_epochs,
                "mini_batches": setting.batch_size // setting.minibatch_size,
                "discount_factor": setting.gamma,
                "gae_lambda": setting.gae_lambda,
                "learning_rate": setting.learning_rate,
                "grad_norm_clip": setting.max_grad_norm,
                "ratio_clip": setting.clip_coef,
                "value_clip": 0.0,
                "entropy_loss_scale": setting.ent_coef,
                "value_loss_scale": setting.vf_coef,
                "experiment": {"write_interval": 0, "checkpoint_interval": 0},
            },
            **spaces,
        )

    def warm_up(self) -> None:
        state = torch.get_rng_state()
        other = Skrl(self.setting, seed=12345)
        other.train(other.setting.batch_size)
        torch.set_rng_state(state)

    def learn(self, stop=None) -> None:
        if stop is not None:
            self.agent.stop = lambda: stop(self.returns())
        self.train(self.setting.total_timesteps)

    def train(self, total_timesteps) -> None:
        timesteps = total_timesteps // self.setting.num_envs
        options = {"timesteps": timesteps, "headless": True, "disable_progressbar": True}
        trainer = SequentialTrainer(
            env=self.env, agents=self.agent, cfg={**options, "close_environment_at_exit": False}
        )
        self.agent.enable_training_mode(True)
        with suppress(Stopped):
            trainer.train()

    def returns(self):
        return list(self.recorded.return_queue)

    def act(self, obs):
        with torch.no_grad():
            return self.agent.policy.net(torch.as_tensor(obs)).argmax(1).numpy()


if __name__ == "__main__":
    _protocol.main(Skrl)
