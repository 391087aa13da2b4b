"""Proximal policy optimization (Schulman et al. 2017) with the implementation details of Huang et al.
2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastrl.algorithms.base import Algorithm, AlgorithmConfig
from fastrl.arrays import all_finite, empty_like, to_host, zeros
from fastrl.distributions import distribution_for
from fastrl.kernels import gae
from fastrl.kernels.losses import normalize_advantage
from fastrl.kinds import kinds
from fastrl.minibatches import chunks
from fastrl.networks import NetworkOptions
from fastrl.normalize import ReturnNormalizer
from fastrl.observations import Encoder
from fastrl.policies import build_network
from fastrl.schedules import linear
from fastrl.sources import RolloutBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOConfig(AlgorithmConfig):
    """Configuration of PPO."""

    num_steps: int = 128
    """Steps of each environment in a batch."""
    update_epochs: int = 4
    """Passes over each batch."""
    minibatch_size: int = 64
    """Samples of an update; a last, smaller minibatch takes what is left."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    anneal_lr: bool = True
    """Whether the learning rate falls linearly to 0 over the run."""
    adam_eps: float = 1e-5
    """Added to the root of Adam's second moment."""
    gae_lambda: float = 0.95
    """Lambda of generalized advantage estimation, in [0, 1]."""
    clip_coef: float = 0.2
    """Clip range of the probability ratio."""
    clip_value: float | None = None
    """Clip range of the value's change; None: no clipping."""
    normalize_obs: bool = False
    """Whether observations are shifted and scaled by their running mean and standard deviation, clipped to
    +-10.
    """
    normalize_reward: bool = False
    """Whether rewards are scaled by the running standard deviation of the discounted return, clipped to
    +-10.
    """
    normalize_advantage: bool = True
    """Whether each minibatch's advantages are shifted and scaled to mean 0, standard deviation 1."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    kl_coef: float = 0.0
    """Weight of a penalty on the KL divergence from the policy that acted."""
    target_kl: float | None = None
    """An approximate KL divergence above which the batch's remaining epochs are skipped."""
    max_grad_norm: float = 0.5
    """Global norm that gradients are clipped to."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers, of the actor and of the critic each."""
    activation: Literal["tanh", "relu", "silu"] = "tanh"
    """Activation of the hidden layers."""
    squash_actions: bool = False
    """For continuous actions: squash them into their bounds by tanh, instead of clipping them."""
    state_dependent_std: bool = False
    """For continuous actions: take the deviations from the network, instead of one vector for all states."""
    network: Literal["auto", "mlp", "nature", "impala"] = "auto"
    """Kind of network: an MLP for vectors, or a convolutional trunk for images; auto picks by the
    observations.
    """
    recurrent: Literal["none", "lstm", "gru"] = "none"
    """A memory between trunk and heads: one each for actor and critic, one together for images. Needs torch;
    a minibatch then holds whole environments, minibatch_size // num_steps of them.
    """
    recurrent_size: int = 64
    """Units of the memory."""
    compile: bool = False
    """Whether a torch network runs through torch.compile, which takes a while and pays on large networks
    only.
    """
    device: str = "cpu"
    """Where a torch network lives and learns: cpu, cuda or cuda:N; environments stay on the CPU."""
    bf16: bool = False
    """Whether a torch network computes in bfloat16 (autocast); parameters stay float32."""

    def __post_init__(self) -> None:
        AlgorithmConfig.__post_init__(self)
        for name in ("num_steps", "update_epochs", "minibatch_size", "recurrent_size"):
            self.require(name, getattr(self, name) >= 1, "must be >= 1")
        for name in ("learning_rate", "adam_eps", "clip_coef", "max_grad_norm"):
            self.require(name, getattr(self, name) > 0, "must be > 0")
        for name in ("clip_value", "target_kl"):
            self.require(name, getattr(self, name) is None or getattr(self, name) > 0, "must be > 0 or None")
        for name in ("ent_coef", "vf_coef", "kl_coef"):
            self.require(name, getattr(self, name) >= 0, "must be >= 0")
        self.require("gae_lambda", 0.0 <= self.gae_lambda <= 1.0, "must be in [0, 1]")
        self.require("hidden", all(width >= 1 for width in self.hidden), "must be widths >= 1")
        batch = self.num_envs * self.num_steps
        rule = f"must be <= num_envs * num_steps = {batch}"
        self.require("minibatch_size", self.minibatch_size <= batch, rule)


STATS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
"""What the loss kernel sums over samples, in its order."""
KL = STATS.index("approx_kl")


class PPO(Algorithm):
    """PPO, by default with separate networks for actor and critic.

    Each batch is ``num_steps`` steps of ``num_envs`` environments. Episodes cut off by a time limit bootstrap
    from the value of their final observation.

    With ``recurrent`` (Hausknecht & Stone 2015), or a recurrent module, it follows the LSTM details of Huang
    et al. 2022: see ``fastrl.recurrent``. Actor and critic have a memory each; for images they share one.
    """

    Config = PPOConfig
    config: PPOConfig

    def setup(self) -> None:
        """Build the policy, the optimiser and the rollout source."""
        config = self.config
        init, shuffle, env, actions = np.random.SeedSequence(config.seed).spawn(4)
        encoder = Encoder(self.env.single_observation_space)
        distribution = distribution_for(
            self.env.single_action_space,
            squash=config.squash_actions,
            state_dependent_std=config.state_dependent_std,
        )
        options = NetworkOptions(
            engine=config.engine,
            trunk=config.network,
            hidden=config.hidden,
            activation=config.activation,
            compiled=config.compile,
            bf16=config.bf16,
            recurrent=config.recurrent,
            recurrent_size=config.recurrent_size,
            device=config.device,
        )
        network = self.network = build_network(encoder, distribution, options, init, self.module)
        kind = kinds(network)
        self.minibatches = kind.minibatches(config.minibatch_size, config.num_steps)
        self.policy = kind.policy(
            network,
            encoder,
            distribution,
            int(actions.generate_state(1, np.uint64)[0]),
            normalize=config.normalize_obs,
        )
        rewards = ReturnNormalizer(self.env.num_envs, config.gamma) if config.normalize_reward else None
        self.loss = distribution.ppo_loss(
            network,
            clip_coef=config.clip_coef,
            vf_coef=config.vf_coef,
            ent_coef=config.ent_coef,
            kl_coef=config.kl_coef,
            clip_value=config.clip_value,
        )
        self.rng = np.random.Generator(np.random.PCG64(shuffle))
        self.optimizer = kind.optimizer(network, eps=config.adam_eps)
        self.stats = zeros(len(STATS), np.float64, like=network.params)
        self.minibatch = kind.captured(self._minibatch)
        self.source = kind.source(
            self.env,
            self.policy,
            config.num_steps,
            int(env.generate_state(1)[0] >> 2),  # some environments take 31 bits
            reward_normalizer=rewards,
        )
        self.predictions = 0

    def update(self, batch: RolloutBatch) -> dict[str, float]:
        """``update_epochs`` passes of minibatch Adam steps on the clipped surrogate loss."""
        config = self.config
        advantage = gae(
            batch.reward, batch.value, batch.next_value, batch.terminated, batch.truncated,
            gamma=config.gamma, lam=config.gae_lambda,
        )  # fmt: skip
        if not all_finite(advantage):
            raise FloatingPointError(
                f"the advantage is not finite in the batch after step {self.num_timesteps}"
            )
        return_ = advantage + batch.value
        learning_rate = config.learning_rate
        if config.anneal_lr:
            learning_rate = linear(learning_rate, 0.0)(self.num_timesteps / self.total_timesteps)
        self.optimizer.learning_rate = learning_rate
        epochs, updates, norms = 0, 0, 0.0
        self.stats[:] = 0.0
        for _ in range(config.update_epochs):
            kl = self.stats[KL].item() if config.target_kl is not None else 0.0
            for minibatch in self.minibatches.epoch(batch, advantage, return_, self.rng):
                norms += self.minibatch(*minibatch)
                updates += 1
            epochs += 1
            if config.target_kl is not None and self.stats[KL].item() - kl > config.target_kl * batch.samples:
                break
        means = dict(zip(STATS, (self.stats / (batch.samples * epochs)).tolist(), strict=True))
        return {
            **{f"train/{name}": mean for name, mean in means.items()},
            "train/explained_variance": explained_variance(to_host(batch.value), to_host(return_)),
            "train/grad_norm": float(norms / updates),
            "train/epochs": epochs,
            "train/learning_rate": learning_rate,
        }

    def _minibatch(
        self, obs: Any, action: Any, log_prob: Any, advantage: Any, return_: Any, value: Any
    ) -> Any:
        """Gradient norm of one Adam step on the mean loss of these samples; adds to ``stats``."""
        network = self.policy.network
        if self.config.normalize_advantage:
            advantage = normalize_advantage(advantage)
        clipped = self.config.clip_value is not None
        for rows, x in chunks(obs, network.chunk):
            y, tape = network.forward(x)
            dy = empty_like(y)
            self.loss(
                y, dy, action[rows], log_prob[rows], advantage[rows], return_[rows], self.stats,
                value[rows] if clipped else None, None, 1.0 / len(value),
            )  # fmt: skip
            network.backward(tape, dy)
        return self.optimizer.step(self.config.max_grad_norm)

    def act(self, obs: Any, deterministic: bool) -> NDArray[Any]:
        """Actions [N] for observations [N, ...]; drawn ones come from their own random stream."""
        return self.respond(obs, None, None, deterministic)[0]

    def respond(
        self, obs: Any, state: Any, episode_start: NDArray[np.bool_] | None, deterministic: bool
    ) -> tuple[NDArray[Any], Any]:
        """As :meth:`act`, with the recurrent state."""
        x = self.policy.observe(obs)
        self.predictions += not deterministic
        counter = None if deterministic else -self.predictions % 2**64
        action, state = self.policy.respond(x, counter, state, episode_start)
        return self.policy.distribution.to_env(action), state

    def state(self) -> dict[str, Any]:
        """Policy, optimiser and random generator."""
        return {
            "policy": self.policy.state(),
            "optimizer": self.optimizer.state(),
            "rng": self.rng.bit_generator.state,
            "predictions": self.predictions,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self.policy.load_state(state["policy"])
        self.optimizer.load_state(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        self.predictions = int(state["predictions"])


def explained_variance(value: NDArray[Any], return_: NDArray[Any]) -> float:
    """1 - Var[return - value] / Var[return]: 1 is a perfect critic, <= 0 one that explains nothing; 0 if
    flat.
    """
    variance = float(np.var(return_))
    return 1.0 - float(np.var(return_ - value)) / variance if variance > 0 else 0.0
