"""DQN and QR-DQN with prioritized experience replay.

model = PERDQN("MlpPolicy", env, replay_buffer_kwargs={"alpha": 0.6, "beta": 0.4})   # instead of DQN
"""

from typing import Any, cast

import numpy as np
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch.nn import functional

from fastrl.integrations.sb3.replay import PrioritizedReplayBuffer, PrioritizedSamples
from fastrl.kernels import quantile_huber


class _Prioritized(OffPolicyAlgorithm):
    """What the two have in common: the buffer, and a training step with weights and priorities."""

    max_grad_norm: Any

    def _setup_model(self) -> None:
        if self.replay_buffer_class is None:
            self.replay_buffer_class = PrioritizedReplayBuffer
        self._require_prioritized(self.replay_buffer_class)
        n_steps, given = self.n_steps, self.replay_buffer_kwargs
        if n_steps > 1:
            self.replay_buffer_kwargs = {"n_steps": n_steps, "gamma": self.gamma, **given}
        self.n_steps = 1  # SB3 would warn that it leaves n_steps to this buffer
        super()._setup_model()
        self.n_steps, self.replay_buffer_kwargs = n_steps, given  # a model that is loaded may have others

    def _setup_learn(
        self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *rest: Any
    ) -> Any:
        if reset_num_timesteps or self._last_obs is None:  # SB3 resets the environments, amid episodes
            cast(PrioritizedReplayBuffer, self.replay_buffer).end_episodes()
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *rest)

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Loads what ``save_replay_buffer`` saved.

        Raises:
            TypeError: another kind of buffer; the model keeps its own.
        """
        before = self.replay_buffer
        super().load_replay_buffer(path, truncate_last_traj)
        loaded, self.replay_buffer = self.replay_buffer, before
        self._require_prioritized(type(loaded))
        self.replay_buffer = loaded

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Draws batches by priority, minimises their weighted loss, and renews their priorities.

        The exponent β of the weights goes to 1 in proportion to the steps of ``learn`` that are done.
        """
        buffer = cast(PrioritizedReplayBuffer, self.replay_buffer)
        beta = 1 - (1 - buffer.beta) * self._current_progress_remaining
        optimizer = self.policy.optimizer
        self.policy.set_training_mode(True)
        self._update_learning_rate(optimizer)
        losses = []
        for _ in range(gradient_steps):
            batch = buffer.sample(batch_size, self._vec_normalize_env, beta)
            discounts = self.gamma if batch.discounts is None else batch.discounts
            each, priority = self._losses(batch, (1 - batch.dones) * discounts)
            loss = (batch.weights * each).mean()
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            if self.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            optimizer.step()
            buffer.update_priorities(batch.indices, priority.reshape(-1).cpu().numpy())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))
        self.logger.record("train/beta", beta)

    def _losses(
        self, batch: PrioritizedSamples, discounts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss [B, 1] and new priority [B, 1] of each sample; ``discounts`` [B, 1] are 0 where it ended."""
        raise NotImplementedError

    def _require_prioritized(self, cls: type[Any]) -> None:
        if not issubclass(cls, PrioritizedReplayBuffer):
            raise TypeError(
                f"{type(self).__name__}: the replay buffer must be a PrioritizedReplayBuffer, "
                f"got {cls.__name__}"
            )


class PERDQN(_Prioritized, DQN):
    """``stable_baselines3.DQN`` with prioritized replay: same arguments and methods.

    Losses are weighted by importance sampling; a priority is the absolute TD error of the last time that its
    transition was drawn. ``replay_buffer_kwargs`` are :class:`PrioritizedReplayBuffer`'s: ``alpha``,
    ``beta`` (annealed to 1 at the end of ``learn``), ``eps``, ``seed``. ``n_steps`` > 1: returns of as many.

    Source: Schaul et al. 2016, Prioritized experience replay, algorithm 1.
    """

    def _losses(
        self, batch: PrioritizedSamples, discounts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            following = self.q_net_target(batch.next_observations).max(dim=1, keepdim=True).values
            target = batch.rewards + discounts * following
        current = self.q_net(batch.observations).gather(1, batch.actions.long())
        loss = functional.smooth_l1_loss(current, target, reduction="none")
        return loss, (target - current.detach()).abs_()


class PERQRDQN(_Prioritized, QRDQN):
    """``sb3_contrib.QRDQN`` with prioritized replay; see :class:`PERDQN`.

    A priority is the transition's quantile Huber loss, as Rainbow's is its loss: the error of the whole
    distribution, where the TD error of the mean may vanish. The loss is
    ``fastrl.kernels.quantile_huber``.
    """

    def _losses(
        self, batch: PrioritizedSamples, discounts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            following = self.quantile_net_target(batch.next_observations)  # [B, quantiles, actions]
            greedy = following.mean(dim=1, keepdim=True).argmax(dim=2, keepdim=True)
            target = batch.rewards + discounts * self._of_action(following, greedy)
        actions = batch.actions.long()[..., None]
        current = self._of_action(self.quantile_net(batch.observations), actions)
        loss = per_sample_quantile_huber(current, target)
        return loss, loss.detach()

    def _of_action(self, quantiles: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return quantiles.gather(2, action.expand(-1, self.n_quantiles, 1)).squeeze(2)


def per_sample_quantile_huber(current: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Quantile Huber losses [B, 1] whose mean is ``quantile_huber_loss`` of sb3-contrib."""
    return quantile_huber(current, target).loss[:, None]
