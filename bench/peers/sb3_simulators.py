"""PPO of Stable-Baselines3 in environments of others, with its own wrappers."""

import warnings

import _protocol
import _simulators
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env, make_vec_env
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize


class StableBaselines3:
    VERSIONS = _protocol.versions("stable-baselines3", "torch", "gymnasium", "numpy", "ale-py", "mujoco")
    method = "step_wait"

    def __init__(self, case, variant, seed) -> None:
        warnings.simplefilter("ignore")  # Gymnasium's own
        mlp = {"net_arch": {"pi": [64, 64], "vf": [64, 64]}}
        atari = case.env_id.startswith("ALE/")
        if atari:
            import ale_py
            import gymnasium

            gymnasium.register_envs(ale_py)
            # ALE skips 4 frames itself unless told not to
            options = {"frameskip": 1}
            env = make_atari_env(case.env_id, n_envs=case.num_envs, seed=seed, env_kwargs=options)
            self.simulator = env = VecFrameStack(env, 4)
        else:
            self.simulator = env = make_vec_env(case.env_id, n_envs=case.num_envs, seed=seed)
        self.model = PPO(
            "CnnPolicy" if atari else "MlpPolicy",
            VecNormalize(env) if case.normalize else env,
            n_steps=case.num_steps,
            batch_size=case.minibatch_size,
            n_epochs=case.update_epochs,
            learning_rate=case.learning_rate,
            clip_range=case.clip_coef,
            ent_coef=case.ent_coef,
            gae_lambda=case.gae_lambda,
            policy_kwargs=None if atari else mlp,
            seed=seed,
            device="cpu",
        )

    def learn(self, steps) -> None:
        self.model.learn(steps, reset_num_timesteps=False)

    def scores(self):
        return [episode["r"] for episode in self.model.ep_info_buffer]


if __name__ == "__main__":
    _simulators.main(StableBaselines3)
