"""PPO of Stable-Baselines3 with the tuned settings of rl-baselines3-zoo, commit 22e3ff2, hyperparams/ppo.yml.

The zoo's newest entries for InvertedPendulum and Hopper, of -v2 and -v4, are used for -v5. Its
`normalize: true` is VecNormalize of observations and rewards with the algorithm's gamma. Budgets are those of
the benchmark where they differ from the zoo's n_timesteps; schedules end with them.
"""

import _learning
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize


def linear(initial):
    return LinearSchedule(initial, 0.0, 1.0)


WIDE = {
    "log_std_init": -2.0,
    "ortho_init": False,
    "activation_fn": torch.nn.ReLU,
    "net_arch": {"pi": [256, 256], "vf": [256, 256]},
}
ZOO = {
    "CartPole-v1": {
        "n_envs": 8,
        "n_steps": 32,
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "ent_coef": 0.0,
        "learning_rate": linear(1e-3),
        "clip_range": linear(0.2),
    },
    "Acrobot-v1": {
        "normalize": True,
        "n_envs": 16,
        "n_steps": 256,
        "gae_lambda": 0.94,
        "gamma": 0.99,
        "n_epochs": 4,
        "ent_coef": 0.0,
    },
    "Pendulum-v1": {
        "n_envs": 4,
        "n_steps": 1024,
        "gae_lambda": 0.95,
        "gamma": 0.9,
        "n_epochs": 10,
        "ent_coef": 0.0,
        "learning_rate": 1e-3,
        "clip_range": 0.2,
        "use_sde": True,
        "sde_sample_freq": 4,
    },
    "MountainCarContinuous-v0": {
        "normalize": True,
        "n_envs": 1,
        "batch_size": 256,
        "n_steps": 8,
        "gamma": 0.9999,
        "learning_rate": 7.77e-05,
        "ent_coef": 0.00429,
        "clip_range": 0.1,
        "n_epochs": 10,
        "gae_lambda": 0.9,
        "max_grad_norm": 5,
        "vf_coef": 0.19,
        "use_sde": True,
        "policy_kwargs": {"log_std_init": -3.29, "ortho_init": False},
    },
    "InvertedPendulum-v5": {
        "normalize": True,
        "n_envs": 1,
        "batch_size": 64,
        "n_steps": 32,
        "gamma": 0.999,
        "learning_rate": 0.000222425,
        "ent_coef": 1.37976e-07,
        "clip_range": 0.4,
        "n_epochs": 5,
        "gae_lambda": 0.9,
        "max_grad_norm": 0.3,
        "vf_coef": 0.19816,
    },
    "LunarLander-v3": {
        "n_envs": 16,
        "n_steps": 1024,
        "batch_size": 64,
        "gae_lambda": 0.98,
        "gamma": 0.999,
        "n_epochs": 4,
        "ent_coef": 0.01,
    },
    "Hopper-v5": {
        "normalize": True,
        "n_envs": 1,
        "batch_size": 32,
        "n_steps": 512,
        "gamma": 0.999,
        "learning_rate": 9.80828e-05,
        "ent_coef": 0.00229519,
        "clip_range": 0.2,
        "n_epochs": 5,
        "gae_lambda": 0.99,
        "max_grad_norm": 0.7,
        "vf_coef": 0.835671,
        "policy_kwargs": WIDE,
    },
}


class Watch(BaseCallback):
    def __init__(self, watch) -> None:
        super().__init__()
        self.watch = watch

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.watch(self.num_timesteps, [episode["r"] for episode in self.model.ep_info_buffer])


class StableBaselines3:
    VERSIONS = _learning.versions("stable-baselines3", "torch", "gymnasium", "numpy")

    def __init__(self, env_id, seed) -> None:
        torch.set_num_threads(1)
        self.total_timesteps = _learning.TASKS[env_id].total_timesteps
        settings = dict(ZOO[env_id])
        env = make_vec_env(env_id, n_envs=settings.pop("n_envs"), seed=seed)
        self.normalizer = None
        if settings.pop("normalize", False):
            env = self.normalizer = VecNormalize(env, gamma=settings["gamma"])
        self.model = PPO("MlpPolicy", env, seed=seed, device="cpu", **settings)

    def learn(self, watch) -> None:
        self.model.learn(self.total_timesteps, callback=Watch(watch))
        if self.normalizer is not None:
            self.normalizer.training = False

    def act(self, obs):
        if self.normalizer is not None:
            obs = self.normalizer.normalize_obs(obs)
        return self.model.predict(obs, deterministic=True)[0]


if __name__ == "__main__":
    _learning.main(StableBaselines3)
