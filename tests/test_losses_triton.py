"""PPO's losses in Triton without a GPU, interpreted and compiled ahead of time."""

INTERPRETED = """
import numpy as np
from fastrl.kernels._dispatch import available
from fastrl.kernels.losses import normalize_advantage, ppo_categorical, ppo_gaussian, ppo_multi_categorical

assert "triton" in available("losses", "ppo_categorical")
rng = np.random.default_rng(0)
PLAIN = {"clip_coef": 0.2}
FULL = {"clip_coef": 0.2, "vf_coef": 0.7, "ent_coef": 0.03, "kl_coef": 0.4, "clip_value": 0.3}

def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

def check(op, *policy, action, **options):
    batch = len(action)
    value = normal(2 * batch)[::2]
    samples = (value, action, normal(batch) - 1.5, normal(batch), value + normal(batch))
    if "clip_value" in options:
        options["old_value"] = value + 0.5 * normal(batch)
    results = []
    for backend in ("triton", "reference"):
        stats = np.ones(5)
        results.append((*op(*policy, *samples, stats=stats, backend=backend, **options), stats))
    for got, exact in zip(*results):
        np.testing.assert_allclose(got, exact, rtol=2e-5, atol=2e-5)

for batch, sizes in [(0, (3,)), (1, (1,)), (7, (3,)), (133, (5,)), (40, (2, 4, 1)), (5, (300,))]:
    for options in (PLAIN, FULL):
        wide = normal(batch, sum(sizes) + 3)
        logits = wide[:, 1:-2]
        action = np.stack([rng.integers(0, size, batch) for size in sizes], axis=1)
        if options is FULL:
            mask = rng.random(logits.shape) < 0.6
            mask[np.arange(batch)[:, None], action + np.cumsum([0, *sizes[:-1]])] = True
            options = options | {"action_mask": mask}
        check(ppo_multi_categorical, logits, action=action, sizes=sizes, **options)
        if len(sizes) == 1:
            check(ppo_categorical, logits, action=action[:, 0].copy(), **options)
for batch, actions in [(0, 2), (1, 1), (33, 3), (5, 17)]:
    for options in (PLAIN, FULL):
        for log_std in (0.3 * normal(batch, actions), 0.3 * normal(actions)):
            check(ppo_gaussian, normal(batch, actions), log_std, action=normal(batch, actions), **options)

for batch in (0, 1, 2, 5000):
    advantage = 3 * normal(batch) + 1
    got, exact = (normalize_advantage(advantage, backend=backend) for backend in ("triton", "reference"))
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-6)

# tensors go to the kernel as they are, the loss is differentiable, and what does not fit is refused
import torch
torch.manual_seed(0)
logits, value = torch.randn(9, 4, requires_grad=True), torch.randn(9, requires_grad=True)
samples = (torch.randint(4, (9,)), torch.randn(9) - 1.4, torch.randn(9), torch.randn(9))
grads = []
for backend in ("triton", "cpp"):
    stats = torch.zeros(5, dtype=torch.float64)
    loss = ppo_categorical(logits, value, *samples, **PLAIN, stats=stats, backend=backend).loss
    grads.append((*torch.autograd.grad((loss * torch.arange(9)).sum(), (logits, value)), stats))
for got, exact in zip(*grads):
    torch.testing.assert_close(got, exact, rtol=2e-5, atol=2e-5)
for bad in (samples[0].int(), samples[0][:3], samples[0][:, None]):
    try:
        ppo_categorical(logits, value, bad, *samples[1:], **PLAIN, backend="triton")
        raise AssertionError
    except (TypeError, ValueError) as error:
        assert "ppo_categorical: action must be int64 [B]" in str(error), error

# NaN stays in its row; so does an action that nothing could have drawn, which the CPU's kernels refuse
import warnings
warnings.simplefilter("ignore", RuntimeWarning)
logits, action = normal(6, 3), np.array([0, 1, 2, -1, 3, 2])
logits[1, 0] = np.nan
mask = np.ones((6, 3), bool)
mask[5, 2] = False
got = ppo_categorical(
    logits, *normal(1, 6), action, *normal(3, 6), clip_coef=0.2, ent_coef=0.1, action_mask=mask, backend="triton"
)
np.testing.assert_array_equal(np.isnan(got.loss), [False, True, False, True, True, True])
np.testing.assert_array_equal(np.isnan(got.d_logits).all(1), [False, True, False, True, True, True])
assert np.isfinite(got.d_value).all()
"""

COMPILED = """
from fastrl.kernels.losses.triton import DEVICES, normalize_kernel, ppo_categorical_kernel, ppo_gaussian_kernel

assert DEVICES == ("cuda",)
arrays = (
    "logits mean log_std value old_log_prob advantage return_ old_value loss d_logits d_mean d_log_std d_value"
)
types = dict.fromkeys(arrays.split(), "*fp32") | {"mask": "*i1", "offsets": "*i64", "sums": "*fp64"}
types |= dict.fromkeys("scale clip_coef vf_coef ent_coef kl_coef clip_value".split(), "fp32")
for full, rows, columns in [(False, 128, 2), (True, 16, 32), (True, 2, 256)]:
    blocks = {"BLOCK_B": rows, "BLOCK_A": columns}
    constants = {"MASKED": full, "CLIP_VALUE": full} | blocks
    compiled(ppo_categorical_kernel, types | {"action": "*i64"}, constants)
    compiled(ppo_gaussian_kernel, types | {"action": "*fp32"}, {"CLIP_VALUE": full} | blocks)
compiled(normalize_kernel, {"x": "*fp32", "out": "*fp32"}, {"BLOCK": 1024})
"""


def test_interpreted_matches_the_reference(triton_interpreted) -> None:
    triton_interpreted(INTERPRETED)


def test_compiles_for_a100_and_h100_without_spilling(triton_compiled) -> None:
    triton_compiled(COMPILED, kernels=7)
