"""PPO of fastrl in environments of others."""

import _protocol
import _simulators

import fastrl


class Fastrl:
    VERSIONS = _protocol.versions("gymnasium", "numpy", "torch", fastrl=fastrl.__version__)
    method = "step"

    def __init__(self, case, variant, seed) -> None:
        torch = variant in ("fastrl eager", "fastrl compiled")
        self.agent = fastrl.PPO(
            case.env_id,
            seed=seed,
            num_envs=case.num_envs,
            num_steps=case.num_steps,
            minibatch_size=case.minibatch_size,
            update_epochs=case.update_epochs,
            learning_rate=case.learning_rate,
            anneal_lr=False,
            clip_coef=case.clip_coef,
            ent_coef=case.ent_coef,
            gae_lambda=case.gae_lambda,
            normalize_obs=case.normalize,
            normalize_reward=case.normalize,
            engine="torch" if torch else "auto",
            bf16=variant == "fastrl bf16",
            compile=variant == "fastrl compiled",
        )
        self.simulator = self.agent.env

    def learn(self, steps) -> None:
        self.agent.learn(steps)

    def scores(self):
        return [score for score, _ in self.agent.episodes]


if __name__ == "__main__":
    _simulators.main(Fastrl)
