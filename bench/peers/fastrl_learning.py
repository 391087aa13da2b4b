"""PPO of fastrl with its presets: engine="auto", or that of a last argument, through the public interface."""

import sys

import _learning

import fastrl
from fastrl.presets import preset


class Fastrl:
    VERSIONS = _learning.versions("gymnasium", "numpy", fastrl=fastrl.__version__)

    def __init__(self, env_id, seed) -> None:
        fields = dict(preset("ppo", env_id).fields)
        fields["total_timesteps"] = _learning.TASKS[env_id].total_timesteps
        engine = sys.argv[3] if len(sys.argv) > 3 else "auto"
        if engine == "torch":
            import torch

            torch.set_num_threads(1)
        self.agent = fastrl.PPO(env_id, seed=seed, engine=engine, **fields)

    def learn(self, watch) -> None:
        self.agent.learn(callback=lambda agent, _: watch(agent.num_timesteps, [r for r, _ in agent.episodes]))

    def act(self, obs):
        return self.agent.act(obs, deterministic=True)


if __name__ == "__main__":
    _learning.main(Fastrl)
