"""PPO of rlox: environments, advantages and buffers in Rust, networks and update in torch."""

import _protocol
import torch
from rlox.algorithms.ppo import PPO
from rlox.callbacks import Callback


class Stop(Callback):
    def __init__(self, stop) -> None:
        super().__init__()
        self.stop = stop

    def on_step(self, *, algo, **_) -> bool:
        return not self.stop(algo.collector.episode_rewards[-_protocol.WINDOW :])


class Rlox:
    VERSIONS = _protocol.versions("rlox", "torch", "numpy")

    def __init__(self, setting, seed) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)  # the library's own seed reaches its environments only
        self.setting = setting
        self.algo = PPO(
            "CartPole-v1",
            n_envs=setting.num_envs,
            seed=seed,
            n_steps=setting.num_steps,
            batch_size=setting.minibatch_size,
            n_epochs=setting.update_epochs,
            learning_rate=setting.learning_rate,
            anneal_lr=False,
            clip_eps=setting.clip_coef,
            clip_vloss=False,
            ent_coef=setting.ent_coef,
            vf_coef=setting.vf_coef,
            gamma=setting.gamma,
            gae_lambda=setting.gae_lambda,
            max_grad_norm=setting.max_grad_norm,
        )

    def warm_up(self) -> None:
        state = torch.get_rng_state()
        other = Rlox(self.setting, seed=12345)
        other.algo.train(other.setting.batch_size)
        torch.set_rng_state(state)

    def learn(self, stop=None) -> None:
        if stop is not None:
            self.algo.callbacks.callbacks.append(Stop(stop))
        self.algo.train(self.setting.total_timesteps)

    def returns(self):
        return self.algo.collector.episode_rewards

    def act(self, obs):
        return self.algo.predict(obs).numpy()


if __name__ == "__main__":
    _protocol.main(Rlox)
