"""PPO of fastrl, through the public interface."""

import _protocol

import fastrl


class Fastrl:
    VERSIONS = _protocol.versions("gymnasium", "numpy", fastrl=fastrl.__version__)

    def __init__(self, setting, seed) -> None:
        self.setting = setting
        self.agent = fastrl.PPO(
            "CartPole-v1",
            seed=seed,
            num_envs=setting.num_envs,
            num_steps=setting.num_steps,
            minibatch_size=setting.minibatch_size,
            update_epochs=setting.update_epochs,
            learning_rate=setting.learning_rate,
            anneal_lr=False,
            clip_coef=setting.clip_coef,
            ent_coef=setting.ent_coef,
            vf_coef=setting.vf_coef,
            gamma=setting.gamma,
            gae_lambda=setting.gae_lambda,
            max_grad_norm=setting.max_grad_norm,
            hidden=(64, 64),
            activation="tanh",
        )

    def warm_up(self) -> None:
        other = Fastrl(self.setting, seed=12345)
        other.agent.learn(other.setting.batch_size)

    def learn(self, stop=None) -> None:
        callback = None if stop is None else lambda *_: not stop(self.returns())
        self.agent.learn(self.setting.total_timesteps, callback=callback)

    def returns(self):
        return [return_ for return_, _ in self.agent.episodes]

    def act(self, obs):
        return self.agent.act(obs, deterministic=True)


if __name__ == "__main__":
    _protocol.main(Fastrl)
