"""PPO of SBX: Stable-Baselines3's interface, with the networks and their update jitted by JAX.

Its value loss is the mean squared error, not half of it, as that of Stable-Baselines3.
"""

import _protocol
from sbx import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env


class Stop(BaseCallback):
    def __init__(self, stop, returns) -> None:
        super().__init__()
        self.stop = stop
        self.returns = returns

    def _on_step(self) -> bool:
        return not self.stop(self.returns())


class SBX:
    VERSIONS = _protocol.versions("sbx-rl", "jax", "jaxlib", "gymnasium", "numpy")

    def __init__(self, setting, seed) -> None:
        self.setting = setting
        self.model = PPO(
            "MlpPolicy",
            make_vec_env("CartPole-v1", n_envs=setting.num_envs, seed=seed),
            n_steps=setting.num_steps,
            batch_size=setting.minibatch_size,
            n_epochs=setting.update_epochs,
            learning_rate=setting.learning_rate,
            clip_range=setting.clip_coef,
            ent_coef=setting.ent_coef,
            vf_coef=setting.vf_coef,
            gamma=setting.gamma,
            gae_lambda=setting.gae_lambda,
            max_grad_norm=setting.max_grad_norm,
            policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}},
            seed=seed,
        )

    def warm_up(self) -> None:
        other = SBX(self.setting, seed=12345)
        other.model.learn(other.setting.batch_size)

    def learn(self, stop=None) -> None:
        callback = None if stop is None else Stop(stop, self.returns)
        self.model.learn(self.setting.total_timesteps, callback=callback)

    def returns(self):
        return [episode["r"] for episode in self.model.ep_info_buffer]

    def act(self, obs):
        return self.model.predict(obs, deterministic=True)[0]


if __name__ == "__main__":
    _protocol.main(SBX)
