"""Clipped PPO losses of categorical, multi-categorical and Gaussian policies."""

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from fastrl.kernels._check import require_array
from fastrl.kernels._dispatch import is_tensor, resolve
from fastrl.kernels.distributions._check import require_logits, require_mean, require_rows, require_sizes

Array = TypeVar("Array", bound=Any)

PPO_STATS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
"""What the entries of ``stats`` sum over samples: divide by their number for the means."""


class PPOLoss(NamedTuple, Generic[Array]):
    """What `ppo_categorical` and `ppo_multi_categorical` return."""

    loss: Array
    """[B], per sample; of a torch call, the one that autograd follows."""
    d_logits: Array
    """[B, A], scale * d loss[b] / d logits[b]; 0 where masked."""
    d_value: Array
    """[B], scale * d loss[b] / d value[b]."""


class PPOGaussianLoss(NamedTuple, Generic[Array]):
    """What `ppo_gaussian` returns."""

    loss: Array
    """[B], per sample; of a torch call, the one that autograd follows."""
    d_mean: Array
    """[B, A], scale * d loss[b] / d mean[b]."""
    d_log_std: Array
    """[B, A], scale * d loss[b] / d log_std[b]; of log_std [A] their sum over b, [A]."""
    d_value: Array
    """[B], scale * d loss[b] / d value[b]."""


def ppo_categorical(
    logits: Array,
    value: Array,
    action: Array,
    old_log_prob: Array,
    advantage: Array,
    return_: Array,
    *,
    clip_coef: float,
    vf_coef: float = 0.5,
    ent_coef: float = 0.0,
    kl_coef: float = 0.0,
    clip_value: float | None = None,
    old_value: Array | None = None,
    action_mask: Array | None = None,
    scale: float | None = None,
    out: PPOLoss[Array] | None = None,
    stats: Array | None = None,
    backend: str | None = None,
) -> PPOLoss[Array]:
    """Clipped PPO loss [B] of a categorical policy and its gradients by logits and value.

    With ``r = pi(action) / exp(old_log_prob)``, A the advantage, R the return, v the value::

        loss   = policy + vf_coef * value_loss - ent_coef * H(pi) + kl_coef * kl
        policy = max(-A r, -A clip(r, 1 - clip_coef, 1 + clip_coef))
        value_loss = (v - R)^2 / 2, or with clip_value
                     max((v - R)^2, (old_value + clip(v - old_value, -clip_value, clip_value) - R)^2) / 2
        kl     = (r - 1) - log r       (the estimator k3 of KL(old policy, pi))

    Where both sides of a max are equal the unclipped one gives the gradient, so at a clip boundary it flows.
    Arrays are NumPy or torch on one device, of any strides: ``y[:, :A]`` and ``y[:, A]`` of one output are
    not copied. Of tensors, ``loss`` is differentiable (once) by logits and value, the gradients are
    constants.

    Args:
        logits: float32 [B, A].
        value: float32 [B].
        action: int64 [B] in [0, A), legal.
        old_log_prob: float32 [B], of ``action`` when it was taken.
        advantage: float32 [B]; see `normalize_advantage`.
        return_: float32 [B], what the value should be.
        clip_coef: half width of the ratio's range, >= 0.
        vf_coef: weight of the value loss.
        ent_coef: weight of the entropy bonus.
        kl_coef: weight of the penalty for leaving the old policy.
        clip_value: half width of the value's range around ``old_value``; None does not clip it.
        old_value: float32 [B], given with ``clip_value`` and only then.
        action_mask: bool [B, A], True = legal; a masked action behaves as one whose logit is -inf.
        scale: factor on the gradients, None is 1 / B. It is not in what autograd passes on.
        out: arrays to write into, any strides (not of tensors).
        stats: float64 [5], contiguous; the sums over samples of `PPO_STATS` are added to it, the value loss
            without vf_coef, as clip fraction the number of samples whose ratio was clipped.
        backend: "cpp", "triton" or "reference"; None: the device's default.

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape, a negative clip_coef or clip_value, or an action that is out of range or
            masked, whose row is named. Nothing is changed. On CUDA such a row becomes NaN instead, as an
            error would have to wait for the device.

    Source: Schulman et al. 2017, "Proximal policy optimization algorithms", eqs. 7 and 9; Huang et al. 2022,
    "The 37 implementation details of PPO" (value clipping); Schulman 2020, "Approximating KL divergence"
    (k3).
    """
    op = "ppo_categorical"
    coefficients = _coefficients(clip_coef, vf_coef, ent_coef, kl_coef, clip_value)
    arrays = (logits, value, action, old_log_prob, advantage, return_, old_value, action_mask)
    if is_tensor(logits):
        return PPOLoss(*_torch(op, out, stats, arrays, (*coefficients.values(), scale, backend)))
    batch, actions = require_logits(op, logits, action_mask)
    require_array(op, "action", action, np.int64, (batch,), "[B]")
    _check_samples(
        op, batch, value, old_log_prob, advantage, return_, old_value, stats, clip_coef, clip_value
    )
    out = _logits_out(op, batch, actions, out)
    resolve("losses", op, "cpu", backend)(*arrays, out, stats, scale=scale, **coefficients)
    return out


def ppo_multi_categorical(
    logits: Array,
    value: Array,
    action: Array,
    old_log_prob: Array,
    advantage: Array,
    return_: Array,
    *,
    sizes: Sequence[int],
    clip_coef: float,
    vf_coef: float = 0.5,
    ent_coef: float = 0.0,
    kl_coef: float = 0.0,
    clip_value: float | None = None,
    old_value: Array | None = None,
    action_mask: Array | None = None,
    scale: float | None = None,
    out: PPOLoss[Array] | None = None,
    stats: Array | None = None,
    backend: str | None = None,
) -> PPOLoss[Array]:
    """Clipped PPO loss [B] of several independent categorical choices a row, and its gradients.

    As `ppo_categorical` with ``log pi = sum_k log pi_k(action[k])`` and ``H = sum_k H(pi_k)``: a row has one
    ratio. See `fastrl.kernels.distributions.multi_categorical_sample` for the layout and for MultiBinary.

    Args:
        logits: float32 [B, sum(sizes)], the choices one after the other.
        value: float32 [B].
        action: int64 [B, K], ``action[b, k]`` in [0, sizes[k]), legal.
        old_log_prob: float32 [B], of all of a row's choices together.
        advantage: float32 [B].
        return_: float32 [B].
        sizes: K numbers of actions.
        clip_coef: as in `ppo_categorical`, like every other option.
        vf_coef: weight of the value loss.
        ent_coef: weight of the entropy bonus.
        kl_coef: weight of the penalty for leaving the old policy.
        clip_value: half width of the value's range around ``old_value``.
        old_value: float32 [B].
        action_mask: bool [B, sum(sizes)], True = legal.
        scale: factor on the gradients, None is 1 / B.
        out: arrays to write into, any strides (not of tensors).
        stats: float64 [5], added to.
        backend: "cpp", "triton" or "reference"; None: the device's default.

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: as `ppo_categorical`, or sizes that are not positive or do not add up to the logits.

    Source: Huang et al. 2022, "The 37 implementation details of PPO" (independent action components).
    """
    op = "ppo_multi_categorical"
    coefficients = _coefficients(clip_coef, vf_coef, ent_coef, kl_coef, clip_value)
    arrays = (logits, value, action, old_log_prob, advantage, return_, old_value, action_mask)
    if is_tensor(logits):
        return PPOLoss(*_torch(op, out, stats, arrays, (list(sizes), *coefficients.values(), scale, backend)))
    batch, actions = require_logits(op, logits, action_mask)
    require_sizes(op, sizes, actions)
    require_array(op, "action", action, np.int64, (batch, len(sizes)), "[B, K]")
    _check_samples(
        op, batch, value, old_log_prob, advantage, return_, old_value, stats, clip_coef, clip_value
    )
    out = _logits_out(op, batch, actions, out)
    resolve("losses", op, "cpu", backend)(*arrays, out, stats, sizes=sizes, scale=scale, **coefficients)
    return out


def ppo_gaussian(
    mean: Array,
    log_std: Array,
    value: Array,
    action: Array,
    old_log_prob: Array,
    advantage: Array,
    return_: Array,
    *,
    clip_coef: float,
    vf_coef: float = 0.5,
    ent_coef: float = 0.0,
    kl_coef: float = 0.0,
    clip_value: float | None = None,
    old_value: Array | None = None,
    scale: float | None = None,
    out: PPOGaussianLoss[Array] | None = None,
    stats: Array | None = None,
    backend: str | None = None,
) -> PPOGaussianLoss[Array]:
    """Clipped PPO loss [B] of a diagonal Gaussian policy and its gradients by mean, log_std and value.

    The loss is that of `ppo_categorical` with, z = (action - mean) / exp(log_std)::

        log pi(action) = sum_a -z_a^2 / 2 - log_std_a - log(2 pi) / 2
        H(pi)          = sum_a log_std_a + (1 + log(2 pi)) / 2
        d log pi / d mean = z / exp(log_std)    d log pi / d log_std = z^2 - 1    d H / d log_std = 1

    Of a policy that is squashed by tanh pass the actions before squashing and their `gaussian_log_prob`: the
    correction in `squashed_gaussian_log_prob` depends on the action alone, so it cancels in the ratio. The
    entropy is then the one before squashing. Likewise where an environment clips actions.

    Args:
        mean: float32 [B, A].
        log_std: float32 [B, A], or [A], the same for all rows.
        value: float32 [B].
        action: float32 [B, A], as drawn.
        old_log_prob: float32 [B], of ``action`` when it was taken.
        advantage: float32 [B]; see `normalize_advantage`.
        return_: float32 [B], what the value should be.
        clip_coef: as in `ppo_categorical`, like every other option.
        vf_coef: weight of the value loss.
        ent_coef: weight of the entropy bonus.
        kl_coef: weight of the penalty for leaving the old policy.
        clip_value: half width of the value's range around ``old_value``.
        old_value: float32 [B].
        scale: factor on the gradients, None is 1 / B.
        out: arrays to write into, any strides (not of tensors).
        stats: float64 [5], added to.
        backend: "cpp", "triton" or "reference"; None: the device's default.

    Raises:
        TypeError: an array of another dtype, or no array.
        ValueError: another shape, or a negative clip_coef or clip_value. Nothing is changed.

    Source: Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7; Huang et al. 2022, "The 37
    implementation details of PPO" (continuous actions).
    """
    op = "ppo_gaussian"
    coefficients = _coefficients(clip_coef, vf_coef, ent_coef, kl_coef, clip_value)
    arrays = (mean, log_std, value, action, old_log_prob, advantage, return_, old_value)
    if is_tensor(mean):
        return PPOGaussianLoss(*_torch(op, out, stats, arrays, (*coefficients.values(), scale, backend)))
    shape = require_mean(op, mean)
    batch = shape[0]
    require_rows(op, "log_std", log_std, shape)
    require_array(op, "action", action, np.float32, shape, "[B, A]")
    _check_samples(
        op, batch, value, old_log_prob, advantage, return_, old_value, stats, clip_coef, clip_value
    )
    if out is None:
        new: Any = np.empty
        single = np.float32
        out = PPOGaussianLoss(
            new(batch, single), new(shape, single), new(log_std.shape, single), new(batch, single)
        )
    else:
        _check_out(op, out, batch)
        require_array(op, "out.d_mean", out.d_mean, np.float32, shape, "[B, A]")
        require_array(op, "out.d_log_std", out.d_log_std, np.float32, log_std.shape, "as log_std")
    resolve("losses", op, "cpu", backend)(*arrays, out, stats, scale=scale, **coefficients)
    return out


def _coefficients(
    clip_coef: float, vf_coef: float, ent_coef: float, kl_coef: float, clip_value: float | None
) -> dict[str, float | None]:
    return {
        "clip_coef": clip_coef,
        "vf_coef": vf_coef,
        "ent_coef": ent_coef,
        "kl_coef": kl_coef,
        "clip_value": clip_value,
    }


def _torch(op: str, out: object, stats: Any, arrays: tuple[Any, ...], options: tuple[Any, ...]) -> Any:
    from fastrl.kernels.losses import _torch

    if out is not None:
        raise ValueError(f"{op}: out takes NumPy arrays only")
    return _torch.run(op, stats, arrays, options)


def _logits_out(op: str, batch: int, actions: int, out: PPOLoss[Any] | None) -> PPOLoss[Any]:
    if out is None:
        new: Any = np.empty
        return PPOLoss(new(batch, np.float32), new((batch, actions), np.float32), new(batch, np.float32))
    _check_out(op, out, batch)
    require_array(op, "out.d_logits", out.d_logits, np.float32, (batch, actions), "[B, A]")
    return out


def _check_out(op: str, out: PPOLoss[Any] | PPOGaussianLoss[Any], batch: int) -> None:
    require_array(op, "out.loss", out.loss, np.float32, (batch,), "[B]")
    require_array(op, "out.d_value", out.d_value, np.float32, (batch,), "[B]")


def _check_samples(
    op: str,
    batch: int,
    value: object,
    old_log_prob: object,
    advantage: object,
    return_: object,
    old_value: object,
    stats: object,
    clip_coef: float,
    clip_value: float | None,
) -> None:
    if (clip_value is None) != (old_value is None):
        raise ValueError(f"{op}: clip_value and old_value must be given together")
    vectors = {"value": value, "old_log_prob": old_log_prob, "advantage": advantage, "return_": return_}
    if old_value is not None:
        vectors["old_value"] = old_value
    for name, x in vectors.items():
        require_array(op, name, x, np.float32, (batch,), "[B]")
    if stats is not None:
        require_array(op, "stats", stats, np.float64, (len(PPO_STATS),), f"[{len(PPO_STATS)}]")
    for name, bound in (("clip_coef", clip_coef), ("clip_value", clip_value)):
        if bound is not None and not bound >= 0:
            raise ValueError(f"{op}: {name} must be >= 0, got {bound}")
