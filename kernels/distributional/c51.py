"""Distributions on fixed atoms: the Bellman update's projection, and the loss that learns them."""

from typing import Any, Generic, NamedTuple, TypeVar

from fastrl.kernels._dispatch import is_tensor, resolve

Array = TypeVar("Array", bound=Any)


class C51Loss(NamedTuple, Generic[Array]):
    """What `c51_loss` returns."""

    loss: Array
    """[B], per sample; of a torch call, the one that autograd follows."""
    d_logits: Array
    """Like ``logits``, scale * d loss[b] / d logits[b]; 0 for actions not taken."""


def c51_project(
    probs: Any,
    reward: Any,
    discount: Any | None = None,
    *,
    terminated: Any | None = None,
    gamma: float | None = None,
    support: Any | None = None,
    v_min: float | None = None,
    v_max: float | None = None,
    target_support: Any | None = None,
    out: Any | None = None,
    backend: str | None = None,
) -> Any:
    """Distributions of ``reward + discount * Z`` on fixed atoms, [B, M], where Z has ``probs`` on its own.

    Atom i lands at ``reward + discount * z_i``, clipped to the target's range. The two target atoms around it
    share its mass linearly; a target that it lands on gets all of it::

        out[b, j] = sum_i probs[b, i] * hat_j(clip(reward[b] + discount[b] * z_i, z'_0, z'_{M-1}))

    with ``hat_j`` piecewise linear, 1 at z'_j and 0 at its neighbours. Mass is kept to a few roundings.
    Evenly spaced atoms take a faster way than others. NumPy arrays in, array out; torch tensors in, tensor
    out on their device, without gradient.

    Args:
        probs: float32 or float64 [B, N].
        reward: same dtype, [B]; with n-step returns their sum. Infinite ones end at the outer atom.
        discount: same dtype, [B]: γ, γ^n or any other, 0 where terminated. Exclusive with ``gamma``.
        terminated: bool [B], with ``gamma``: no value follows.
        gamma: discount in [0, 1] of all rows that have not terminated.
        support: float32 or float64 [N], the atoms of ``probs``, increasing; or instead of it
        v_min: the first atom and
        v_max: the last of N evenly spaced ones.
        target_support: [M], the atoms of the result; None: those of ``probs``.
        out: where to write, [B, M] of any strides, apart from the inputs; returned.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    A row with a NaN, an infinite probability or a discount that is not finite is NaN throughout. B = 0 gives
    an empty result. Float32 rounds positions to about 1e-7 N of the distance between atoms.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; a support that does not increase, is not finite or has a single
            atom (values are not checked on CUDA); both or neither of ``discount`` and ``gamma``; an ``out``
            that overlaps an input, is read-only or repeats elements; an input that requires grad while grad
            mode is on.
        NotImplementedError: no backend runs on this device.

    Source: Bellemare et al. 2017, "A distributional perspective on reinforcement learning", eq. 7 and
    Algorithm 1; for any support, Rowland et al. 2018, "An analysis of categorical distributional
    reinforcement learning", eq. 10.
    """
    arguments = (probs, reward, discount, terminated, gamma, support, v_min, v_max, target_support, out)
    if is_tensor(probs):
        from fastrl.kernels.distributional import _torch

        return _torch.constant("c51_project", arguments, backend)
    return resolve("distributional", "c51_project", "cpu", backend)(*arguments)


def c51_loss(
    logits: Array,
    action: Array | None,
    next_logits: Array,
    reward: Array,
    discount: Array | None = None,
    *,
    terminated: Array | None = None,
    gamma: float | None = None,
    support: Array | None = None,
    v_min: float | None = None,
    v_max: float | None = None,
    next_selector: Array | None = None,
    kl: bool = False,
    scale: float | None = None,
    out: C51Loss[Array] | None = None,
    backend: str | None = None,
) -> C51Loss[Array]:
    """C51's loss [B] and its gradient: choice of the next action, projection and cross-entropy in one pass.

    With ``p(a) = softmax(logits[b, a])``, z the atoms, and m the projection (`c51_project`) of
    ``reward + discount * z`` under ``softmax(next_logits[b, a'])``::

        a'   = argmax_a sum_i softmax(next_selector[b, a])_i z_i       (the first of equals)
        loss = - sum_j m_j log p(action)_j            kl=True: + sum_j m_j log m_j
        d loss / d logits[b, action] = p(action) sum_j m_j - m

    The loss of either kind serves as priority. Of tensors, ``loss`` is differentiable (once) by ``logits``,
    the gradient is a constant; so are the targets. Rows whose atoms are contiguous are read in place, others
    copied. Of tensors, too, these do the same, the second without autograd of the loss, in half its time::

        c51_loss(logits, ...).loss.mean().backward()
        logits.backward(c51_loss(logits.detach(), ...).d_logits)

    Args:
        logits: float32 [B, A, N]; or [B, N], those of the action taken.
        action: int64 [B] in [0, A), the action taken; None with logits [B, N].
        next_logits: float32 [B, A', N], the target network's after the step; or [B, N], those of a'.
        reward: float32 [B]; with n-step returns their sum.
        discount: float32 [B]: γ or γ^n, 0 where terminated. Exclusive with ``gamma``.
        terminated: bool [B], with ``gamma``: no value follows.
        gamma: discount in [0, 1] of all rows that have not terminated.
        support: float32 or float64 [N], the atoms, increasing; or instead of it
        v_min: the first atom and
        v_max: the last of N evenly spaced ones.
        next_selector: float32, like ``next_logits``: chooses a'. The online network's logits after the step
            make it Double; None: ``next_logits``.
        kl: the KL divergence KL(m || p), which is 0 where the prediction is right, instead of the
            cross-entropy. Their gradients are the same.
        scale: factor on the gradient from 1e-20 to 1e20, None is 1 / B. It is not in what autograd passes on.
        out: C-contiguous arrays to write into (not of tensors), apart from the inputs.
        backend: ``"cpp"``, ``"triton"``, ``"reference"``, or None for the device's default.

    A row with a NaN in what it uses has a NaN loss and gradient; as in ``argmax``, a NaN mean is the largest.

    Raises:
        TypeError: a wrong dtype, or arrays mixed with tensors.
        ValueError: a wrong shape or device; a support that will not do, as in `c51_project`; an action out of
            range, whose row is named (on CUDA its row becomes NaN instead); a target that requires grad.
            Nothing is changed.
        NotImplementedError: no backend runs on this device.

    Source: Bellemare et al. 2017, "A distributional perspective on reinforcement learning", Algorithm 1;
    Double: Hessel et al. 2018, "Rainbow".
    """
    arguments = (logits, action, next_logits, reward, discount, terminated, gamma, support, v_min, v_max)
    if is_tensor(logits):
        from fastrl.kernels.distributional import _torch

        return C51Loss(*_torch.loss("c51_loss", (*arguments, next_selector, kl, scale, out), backend))
    kernel = resolve("distributional", "c51_loss", "cpu", backend)
    return C51Loss(*kernel(*arguments, next_selector, kl, scale, out))
