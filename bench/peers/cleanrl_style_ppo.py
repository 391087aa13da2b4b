"""PPO as one file of plain torch, in the style of CleanRL's ppo.py but written for this benchmark.

It measures what a user of such a script gets, not CleanRL itself, whose own does not run on Gymnasium 1.x.
Like CleanRL's, it treats a time limit as termination.
"""

import _protocol
import gymnasium as gym
import torch
from torch import nn
from torch.distributions import Categorical


def layer(inputs, outputs, gain=2**0.5):
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


def mlp(outputs, gain):
    return nn.Sequential(layer(4, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, outputs, gain))


class Agent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor = mlp(2, 0.01)
        self.critic = mlp(1, 1.0)

    def get_value(self, x):
        return self.critic(x).squeeze(-1)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.get_value(x)


class CleanRLStyle:
    VERSIONS = _protocol.versions("torch", "gymnasium", "numpy")

    def __init__(self, setting, seed) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.setting = setting
        self.seed = seed
        mode = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self.envs = gym.wrappers.vector.RecordEpisodeStatistics(
            gym.make_vec("CartPole-v1", setting.num_envs, vectorization_mode="sync", vector_kwargs=mode)
        )
        self.agent = Agent()
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=setting.learning_rate, eps=1e-5)

    def warm_up(self) -> None:
        state = torch.get_rng_state()
        other = CleanRLStyle(self.setting, seed=12345)
        other.train(other.setting.batch_size)
        torch.set_rng_state(state)

    def learn(self, stop=None) -> None:
        self.train(self.setting.total_timesteps, stop)

    def train(self, total_timesteps, stop=None) -> None:
        setting = self.setting
        shape = (setting.num_steps, setting.num_envs)
        obs = torch.zeros((*shape, 4))
        actions = torch.zeros(shape, dtype=torch.long)
        logprobs, rewards, dones, values = (torch.zeros(shape) for _ in range(4))
        next_obs = torch.as_tensor(self.envs.reset(seed=self.seed)[0])
        next_done = torch.zeros(setting.num_envs)
        for _ in range(total_timesteps // setting.batch_size):
            for step in range(setting.num_steps):
                obs[step] = next_obs
                dones[step] = next_done
                with torch.no_grad():
                    actions[step], logprobs[step], _, values[step] = self.agent.get_action_and_value(next_obs)
                next_obs, reward, terminated, truncated, _ = self.envs.step(actions[step].numpy())
                rewards[step] = torch.as_tensor(reward)
                next_obs = torch.as_tensor(next_obs)
                next_done = torch.as_tensor(terminated | truncated, dtype=torch.float32)
            advantages = self.advantages(rewards, values, dones, next_obs, next_done)
            fields = (obs, actions, logprobs, advantages, advantages + values)
            self.update([x.flatten(0, 1) for x in fields])
            if stop is not None and stop(self.returns()):
                return

    def advantages(self, rewards, values, dones, next_obs, next_done):
        with torch.no_grad():
            next_value = self.agent.get_value(next_obs)
        advantages = torch.zeros_like(rewards)
        last = torch.zeros(self.setting.num_envs)
        for t in reversed(range(self.setting.num_steps)):
            running = 1.0 - next_done
            delta = rewards[t] + self.setting.gamma * next_value * running - values[t]
            last = delta + self.setting.gamma * self.setting.gae_lambda * running * last
            advantages[t] = last
            next_done, next_value = dones[t], values[t]
        return advantages

    def update(self, fields) -> None:
        setting = self.setting
        for _ in range(setting.update_epochs):
            indices = torch.randperm(setting.batch_size)
            for start in range(0, setting.batch_size, setting.minibatch_size):
                rows = indices[start : start + setting.minibatch_size]
                obs, action, old_logprob, advantage, return_ = (x[rows] for x in fields)
                _, logprob, entropy, value = self.agent.get_action_and_value(obs, action)
                ratio = (logprob - old_logprob).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                clipped = ratio.clamp(1 - setting.clip_coef, 1 + setting.clip_coef)
                pg_loss = torch.max(-advantage * ratio, -advantage * clipped).mean()
                v_loss = 0.5 * ((value - return_) ** 2).mean()
                loss = pg_loss - setting.ent_coef * entropy.mean() + setting.vf_coef * v_loss
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.agent.parameters(), setting.max_grad_norm)
                self.optimizer.step()

    def returns(self):
        return list(self.envs.return_queue)

    def act(self, obs):
        with torch.no_grad():
            return self.agent.actor(torch.as_tensor(obs)).argmax(1).numpy()


if __name__ == "__main__":
    _protocol.main(CleanRLStyle)
