"""PPO of rejax: environment, policy and update in one jitted function.

It differs from the setting where its interface leaves no choice: gradients are clipped by element, not by
norm; the value loss is clipped; a time limit counts as termination; weights start from LeCun's normal.
The environment is wrapped to keep the last finished episodes of each copy, which costs it one vectorised
select a step; without the wrapper there would be no training returns to look at.
"""

import _protocol
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.wrappers.purerl import GymnaxWrapper
from rejax import PPO


@struct.dataclass
class Episodes:
    env_state: object
    time: jax.Array  # steps of this copy
    running: jax.Array  # return of the unfinished episode
    returns: jax.Array  # [WINDOW], newest last
    finished: jax.Array  # [WINDOW] times; -1: none


class KeepEpisodes(GymnaxWrapper):
    def __deepcopy__(self, memo):  # PPO.create copies its arguments, and the base class cannot be copied
        return self

    def reset(self, key, params=None):
        obs, state = self._env.reset(key, params)
        none = jnp.full(_protocol.WINDOW, -1)
        return obs, Episodes(state, jnp.int32(0), jnp.float32(0), none.astype(jnp.float32), none)

    def step(self, key, state, action, params=None):
        obs, env_state, reward, done, info = self._env.step(key, state.env_state, action, params)
        time, running = state.time + 1, state.running + reward

        def push(old, new):
            return jnp.where(done, jnp.append(old[1:], new), old)

        episodes = Episodes(
            env_state,
            time,
            running * (1 - done),
            push(state.returns, running),
            push(state.finished, time),
        )
        return obs, episodes, reward, done, info


def mode(actor, obs):
    return actor._action_dist(obs).mode()


class Rejax:
    VERSIONS = _protocol.versions("rejax", "gymnax", "jax", "jaxlib", "numpy")

    def __init__(self, setting, seed) -> None:
        self.setting = setting
        env, env_params = gymnax.make("CartPole-v1")
        self.algo = PPO.create(
            env=KeepEpisodes(env),
            env_params=env_params,
            agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
            num_envs=setting.num_envs,
            num_steps=setting.num_steps,
            num_minibatches=setting.batch_size // setting.minibatch_size,
            num_epochs=setting.update_epochs,
            learning_rate=setting.learning_rate,
            clip_eps=setting.clip_coef,
            ent_coef=setting.ent_coef,
            vf_coef=setting.vf_coef,
            gamma=setting.gamma,
            gae_lambda=setting.gae_lambda,
            max_grad_norm=setting.max_grad_norm,
            skip_initial_evaluation=True,
        ).replace(eval_callback=lambda *_: ())
        self.state = jax.jit(self.algo.init_state)(jax.random.key(seed))
        actor = self.algo.actor
        self.greedy = jax.jit(lambda params, obs: actor.apply(params, obs, method=mode))

    def warm_up(self) -> None:
        self.whole = self._compile(self.setting.total_timesteps)

    def learn(self, stop=None) -> None:
        if stop is None:
            self.state = self.whole(self.state)
            jax.block_until_ready(self.state)
            return
        batch = self._compile(self.setting.batch_size)
        for _ in range(self.setting.total_timesteps // self.setting.batch_size):
            self.state = batch(self.state)
            if stop(self.returns()):
                break

    def _compile(self, steps):
        algo = self.algo.replace(total_timesteps=steps, eval_freq=steps)
        return jax.jit(lambda state: algo.train(train_state=state)[0]).lower(self.state).compile()

    def returns(self):
        episodes = self.state.env_state
        finished = np.asarray(episodes.finished).ravel()
        order = np.argsort(finished, kind="stable")
        order = order[finished[order] >= 0]
        return np.asarray(episodes.returns).ravel()[order]

    def act(self, obs):
        return np.asarray(self.greedy(self.state.actor_ts.params, obs))


if __name__ == "__main__":
    _protocol.main(Rejax)
