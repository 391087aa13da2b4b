"""C51's projection and loss on NumPy arrays: every backend and instruction set against the float64 definition."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastrl import _core
from fastrl.kernels.distributional import C51Loss, c51_loss, c51_project

Array = NDArray[Any]
ISAS = [isa for isa in ("baseline", "avx2", "avx512") if _core.isa_supported(isa)]
# fewer atoms than a vector holds, whole vectors, rests of them; DQN's 51, MuZero's 601
ATOMS = [2, 3, 5, 16, 17, 51, 64, 101, 601]
DISCOUNTS = [0.0, 0.99, 0.99**3, 1.0, 0.9, 0.5, 0.01, 1.3, 7.0, -0.4]


def batch_of(rows: int, n: int, seed: int = 0, dtype: Any = np.float32) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(n), rows) if rows else np.zeros((0, n))
    data = {"probs": probs, "reward": rng.normal(0, 5, rows), "discount": rng.choice(DISCOUNTS, rows)}
    return {name: x.astype(dtype) for name, x in data.items()}


def close(got: Array, exact: Array, n: int) -> None:
    """Within what float32 rounds in a position among n atoms, or a few roundings of float64."""
    tolerance = 2e-7 * (n + 10) if got.dtype == np.float32 else 2e-15 * (n + 10)
    np.testing.assert_allclose(got, exact, rtol=0, atol=tolerance)


def test_reference_by_hand() -> None:
    probs = np.array([[0.5, 0.25, 0.25]])
    got = c51_project(
        probs, np.array([0.5]), np.array([0.5]), support=np.array([-1.0, 0.0, 1.0]), backend="reference"
    )
    np.testing.assert_array_equal(got, [[0.0, 0.5 + 0.25 * 0.5, 0.25 * 0.5 + 0.25]])
    uneven = np.array([-4.0, 0.0, 1.0, 9.0])
    got = c51_project(
        probs,
        np.array([3.0]),
        np.array([2.0]),
        v_min=-1.0,
        v_max=1.0,
        target_support=uneven,
        backend="reference",
    )
    # they land at 1, 3 and 5
    np.testing.assert_allclose(got, [[0, 0, 0.5 + 0.25 * 0.75 + 0.25 * 0.5, 0.25 * 0.25 + 0.25 * 0.5]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", ATOMS)
def test_projection_matches_the_reference(isa: str, n: int, dtype: Any) -> None:
    rng = np.random.default_rng(n)
    even, uneven = np.linspace(-10, 10, n), np.sort(rng.normal(0, 6, n))
    for rows in (0, 1, 61):
        data = batch_of(rows, n, dtype=dtype)
        exact = {name: x.astype(float) for name, x in data.items()}
        for support in (even, uneven, even.astype(np.float32)):
            for target in (
                None,
                np.linspace(-3, 12, n + 5),
                np.array([-8.0, 11.0]),
                np.sort(rng.normal(0, 6, 19)),
            ):
                options = {"support": support, "target_support": target}
                got = c51_project(**data, **options)
                assert got.dtype == dtype
                width = n if target is None else max(n, len(target))
                close(got, c51_project(**exact, **options, backend="reference"), width)


@pytest.mark.parametrize("n", ATOMS)
def test_mass_is_kept(isa: str, n: int) -> None:
    data = batch_of(500, n)
    got = c51_project(**data, v_min=-10, v_max=10)
    np.testing.assert_allclose(got.sum(1, dtype=float), data["probs"].sum(1, dtype=float), rtol=1e-6)
    assert (got >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 5, 17, 51, 64])
def test_an_atom_that_lands_on_another_keeps_its_mass_there(isa: str, n: int, dtype: Any) -> None:
    """Where a peer rounds up and down to the same atom, it loses the mass."""
    data = batch_of(9, n, dtype=dtype)
    ones, zero = np.ones(9, dtype), np.zeros(9, dtype)
    same = c51_project(data["probs"], zero, ones, v_min=-10, v_max=10)
    np.testing.assert_array_equal(same, data["probs"])
    shifted = c51_project(data["probs"], ones, ones, v_min=0, v_max=n - 1)
    np.testing.assert_array_equal(shifted[:, 1:-1], data["probs"][:, :-2])
    assert (shifted[:, 0] == 0).all()
    np.testing.assert_allclose(shifted[:, -1], data["probs"][:, -2:].sum(1), rtol=1e-6)
    uneven = np.arange(n) ** 2.0
    np.testing.assert_array_equal(c51_project(data["probs"], zero, ones, support=uneven), data["probs"])


@pytest.mark.parametrize("support", [np.linspace(-10, 10, 51), np.sinh(np.linspace(-3, 3, 51))])
def test_a_terminal_row_is_the_reward(isa: str, support: Array) -> None:
    data = batch_of(40, 51)
    data["reward"][:4] = support[[0, 50, 25, 13]]
    data["reward"][4:6] = (-1e9, 1e9)
    flags = np.arange(40) % 3 != 1
    got = c51_project(data["probs"], data["reward"], terminated=flags, gamma=0.9, support=support)
    inside = np.clip(data["reward"], support[0], support[-1])
    np.testing.assert_allclose((got @ support)[flags], inside[flags], rtol=2e-6, atol=1e-5)
    assert ((got[flags] > 0).sum(1) <= 2).all()
    by_discount = c51_project(
        data["probs"], data["reward"], np.where(flags, 0, 0.9).astype(np.float32), support=support
    )
    close(by_discount, got, 51)


@pytest.mark.parametrize("n", [5, 51])
@pytest.mark.parametrize("even", [True, False])
def test_nonfinite_as_in_the_reference(isa: str, n: int, even: bool) -> None:
    support = np.linspace(-10, 10, n) if even else np.sort(np.random.default_rng(0).normal(0, 6, n))
    for dtype in (np.float32, np.float64):
        data = batch_of(30, n, dtype=dtype)
        data["discount"][:] = np.resize([0.0, 0.99, 0.3], 30)
        data["reward"][0:3], data["reward"][3:6], data["reward"][6:9] = np.nan, np.inf, -np.inf
        data["discount"][9:11] = (np.nan, np.inf)
        data["probs"][12:15, 1], data["probs"][15:18, 0] = np.nan, np.inf
        got, exact = (
            c51_project(**data, support=support, backend=backend) for backend in ("cpp", "reference")
        )
        np.testing.assert_array_equal(np.isnan(got), np.isnan(exact))
        assert np.isnan(got).all(1).sum() == np.isnan(got).any(1).sum() == 3 + 2 + 6
        close(got[~np.isnan(got)], exact[~np.isnan(exact)], n)
        assert (got[3:6, :-1] == 0).all()
        assert (got[6:9, 1:] == 0).all()


@pytest.mark.parametrize("n", [3, 51])
def test_strides(isa: str, n: int) -> None:
    data = batch_of(13, n)
    expected = c51_project(**data, v_min=-5, v_max=5)
    wide = np.repeat(data["probs"], 3, axis=1)[:, ::3]
    reversed_ = data["probs"][::-1, ::-1].copy()[::-1, ::-1]
    transposed = np.asfortranarray(data["probs"])
    for view in (wide, reversed_, transposed):
        np.testing.assert_array_equal(c51_project(**data | {"probs": view}, v_min=-5, v_max=5), expected)
    for name in ("reward", "discount"):
        view = np.repeat(data[name], 2)[::2]
        np.testing.assert_array_equal(c51_project(**data | {name: view}, v_min=-5, v_max=5), expected)
    for out in (
        np.zeros_like(expected),
        np.zeros((13, 2 * n), np.float32)[:, ::2],
        np.zeros((n, 13), np.float32).T,
    ):
        assert c51_project(**data, v_min=-5, v_max=5, out=out) is out
        np.testing.assert_array_equal(out, expected)


@given(
    st.integers(2, 70), st.integers(0, 2**31), st.floats(0, 1.5), st.floats(-1e3, 1e3), st.floats(0.01, 1e3)
)
def test_property_projection(n: int, seed: int, discount: float, low: float, width: float) -> None:
    data = batch_of(5, n, seed)
    data["discount"][:] = discount
    data["reward"] *= np.float32(width / 5)
    options = {"v_min": low, "v_max": low + width}
    got = c51_project(**data, **options)
    exact = c51_project(**{k: x.astype(float) for k, x in data.items()}, **options, backend="reference")
    np.testing.assert_allclose(got, exact, rtol=0, atol=3e-7 * (n + 10))
    np.testing.assert_allclose(got.sum(1), 1, rtol=2e-6)


def loss_batch(rows: int, actions: int, n: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    logits, next_logits = rng.normal(0, 2, (2, rows, actions, n)).astype(np.float32)
    data = batch_of(rows, n, seed)
    return {
        "logits": logits,
        "action": rng.integers(actions, size=rows),
        "next_logits": next_logits,
        "reward": data["reward"],
        "discount": np.where(rng.random(rows) < 0.2, 0, 0.99).astype(np.float32),
    }


def same_loss(got: C51Loss[Array], exact: C51Loss[Array], n: int) -> None:
    np.testing.assert_allclose(got.loss, exact.loss, rtol=2e-6 * (n + 10), atol=2e-6 * (n + 10))
    np.testing.assert_allclose(got.d_logits, exact.d_logits, rtol=0, atol=1e-6 * (n + 10) / len(got.loss))


@pytest.mark.parametrize("n", ATOMS[:-1])
def test_loss_matches_the_reference(isa: str, n: int) -> None:
    for rows, actions in ((1, 1), (33, 6), (7, 18)):
        data = loss_batch(rows, actions, n, seed=n)
        selector = np.random.default_rng(9).normal(0, 2, data["next_logits"].shape).astype(np.float32)
        for support in ({"v_min": -10, "v_max": 10}, {"support": np.sinh(np.linspace(-3, 3, n))}):
            for options in ({}, {"kl": True, "scale": 0.7 / rows}, {"next_selector": selector}):
                got, exact = (
                    c51_loss(**data, **support, **options, backend=backend)
                    for backend in ("cpp", "reference")
                )
                same_loss(got, exact, n)
                row = np.arange(rows)
                taken = np.zeros((rows, actions), bool)
                taken[row, data["action"]] = True
                assert (got.d_logits[~taken] == 0).all()


@pytest.mark.parametrize("n", [5, 51])
def test_rows_of_one_action(isa: str, n: int) -> None:
    data = loss_batch(11, 4, n)
    row = np.arange(11)
    expected = c51_loss(**data, v_min=-10, v_max=10)
    taken = data | {"logits": data["logits"][row, data["action"]], "action": None}
    got = c51_loss(**taken, v_min=-10, v_max=10)
    np.testing.assert_array_equal(got.loss, expected.loss)
    np.testing.assert_array_equal(got.d_logits, expected.d_logits[row, data["action"]])
    p = np.exp(data["next_logits"].astype(float))
    best = (p / p.sum(-1, keepdims=True) @ np.linspace(-10, 10, n)).argmax(1)
    np.testing.assert_array_equal(
        c51_loss(**data | {"next_logits": data["next_logits"][row, best]}, v_min=-10, v_max=10).loss,
        expected.loss,
    )


def test_kl_is_zero_at_its_minimum_and_differs_by_the_entropy() -> None:
    data = loss_batch(20, 3, 51) | {"reward": np.zeros(20, np.float32), "discount": np.ones(20, np.float32)}
    best = data["next_logits"][:, :1]
    data |= {"logits": best.copy(), "next_logits": best, "action": np.zeros(20, np.int64)}
    got = c51_loss(**data, v_min=-10, v_max=10, kl=True)
    np.testing.assert_allclose(got.loss, 0, atol=5e-6)
    np.testing.assert_allclose(got.d_logits, 0, atol=1e-8)


def test_gradient_is_that_of_the_loss() -> None:
    data = {k: x.astype(float) if k != "action" else x for k, x in loss_batch(4, 2, 7).items()}
    from fastrl.kernels.distributional.reference import project, softmax

    def loss(logits: Array) -> float:
        z = np.linspace(-10, 10, 7)
        p, _ = softmax(data["next_logits"])
        best = (p @ z).argmax(1)
        m = project(p[np.arange(4), best], data["reward"], data["discount"], z, z)
        _, log_p = softmax(logits[np.arange(4), data["action"]])
        return float(-(m * log_p).sum(1).mean())

    exact = np.empty_like(data["logits"])
    for at in np.ndindex(exact.shape):
        step = np.zeros_like(exact)
        step[at] = 1e-5
        exact[at] = (loss(data["logits"] + step) - loss(data["logits"] - step)) / 2e-5
    got = c51_loss(
        **{k: x.astype(np.float32) if k != "action" else x for k, x in data.items()}, v_min=-10, v_max=10
    )
    np.testing.assert_allclose(got.d_logits, exact, atol=2e-6)


def test_views_and_out(isa: str) -> None:
    data = loss_batch(9, 4, 51)
    expected = c51_loss(**data, v_min=-10, v_max=10)
    for name in ("logits", "next_logits"):
        x = data[name]
        wide = np.zeros((9, 6, 60), np.float32)[:, 1:5, 3:54]
        wide[...] = x
        for view in (wide, np.repeat(x, 2, axis=2)[:, :, ::2], np.asfortranarray(x)):
            got = c51_loss(**data | {name: view}, v_min=-10, v_max=10)
            np.testing.assert_array_equal(got.loss, expected.loss)
            np.testing.assert_array_equal(got.d_logits, expected.d_logits)
    out = C51Loss(np.full(9, 9, np.float32), np.full((9, 4, 51), 9, np.float32))
    got = c51_loss(**data, v_min=-10, v_max=10, out=out)
    assert got.loss is out.loss
    assert got.d_logits is out.d_logits
    np.testing.assert_array_equal(out.d_logits, expected.d_logits)
    empty = c51_loss(**{k: x[:0] for k, x in data.items()}, v_min=-10, v_max=10)
    assert empty.loss.shape == (0,)
    assert empty.d_logits.shape == (0, 4, 51)


def test_large_and_masked_logits(isa: str) -> None:
    data = loss_batch(6, 3, 51)
    data["logits"] *= np.float32(1e4)
    data["next_logits"] += np.float32(1e6)
    data["next_logits"][:, :, 7] = -np.inf
    got, exact = (c51_loss(**data, v_min=-10, v_max=10, backend=backend) for backend in ("cpp", "reference"))
    np.testing.assert_allclose(got.loss, exact.loss, rtol=1e-4)
    np.testing.assert_allclose(got.d_logits, exact.d_logits, atol=1e-5)


@pytest.mark.parametrize("n", [3, 51])
@pytest.mark.parametrize("shift", [-80, -59, 59, 80])
def test_logits_far_from_zero(isa: str, n: int, shift: float) -> None:
    """With and without their maximum taken off before exp."""
    data = loss_batch(21, 3, n)
    data["logits"] += np.float32(shift)
    data["next_logits"] += np.float32(shift)
    for scale in (1e-20, 1e20):
        got, exact = (
            c51_loss(**data, v_min=-10, v_max=10, scale=scale, backend=backend)
            for backend in ("cpp", "reference")
        )
        np.testing.assert_allclose(got.loss, exact.loss, rtol=1e-4)
        np.testing.assert_allclose(got.d_logits, exact.d_logits, rtol=0, atol=2e-4 * scale)


@pytest.mark.parametrize("n", [3, 51])
def test_a_row_does_not_depend_on_others(isa: str, n: int) -> None:
    data = loss_batch(37, 5, n)
    expected = c51_loss(**data, v_min=-10, v_max=10)
    changed = np.array([0, 4, 17, 36])
    data["logits"][changed] *= np.float32([[[1e3]], [[-1e3]], [[np.nan]], [[np.inf]]])
    data["next_logits"][changed] *= np.float32([[[np.inf]], [[1e3]], [[-1e3]], [[np.nan]]])
    got = c51_loss(**data, v_min=-10, v_max=10)
    rest = np.delete(np.arange(37), changed)
    np.testing.assert_array_equal(got.loss[rest], expected.loss[rest])
    np.testing.assert_array_equal(got.d_logits[rest], expected.d_logits[rest])


@pytest.mark.parametrize("actions", [2, 5, 16, 40])
def test_the_first_of_equal_actions_is_next(isa: str, actions: int) -> None:
    """And the first NaN is ahead of all."""
    data = loss_batch(19, actions, 51)
    data["next_logits"][:] = data["next_logits"][:, :1]
    data["next_logits"][3:5, -1] = np.nan
    data["next_logits"][:, 1:] += np.float32(2) * np.eye(51, dtype=np.float32)[0]  # worse
    data["next_logits"][7:9, :2] = data["next_logits"][7:9, -1:]
    selector = data["next_logits"]
    data["next_logits"] = np.tile(
        np.arange(actions, dtype=np.float32)[:, None] * np.eye(51, dtype=np.float32)[4], (19, 1, 1)
    )
    best = np.zeros(19, int)
    best[3:5] = actions - 1
    by_hand = data | {"next_logits": data["next_logits"][np.arange(19), best]}
    got = c51_loss(**data, next_selector=selector, v_min=-10, v_max=10)
    np.testing.assert_array_equal(got.loss, c51_loss(**by_hand, v_min=-10, v_max=10).loss)


def test_loss_of_nonfinite_rows_as_in_the_reference(isa: str) -> None:
    data = loss_batch(10, 3, 51)
    data["action"][:] = 1
    data["reward"][:3] = (np.nan, np.inf, -np.inf)
    data["logits"][3, 1, 4] = np.nan
    data["logits"][4, 0, 4] = np.nan
    data["next_logits"][5, 2, 4] = np.nan
    data["discount"][6] = np.nan
    got, exact = (c51_loss(**data, v_min=-10, v_max=10, backend=backend) for backend in ("cpp", "reference"))
    np.testing.assert_array_equal(np.isnan(got.loss), np.isnan(exact.loss))
    assert np.isnan(got.loss).nonzero()[0].tolist() == [0, 3, 5, 6]
    np.testing.assert_array_equal(np.isnan(got.d_logits), np.isnan(exact.d_logits))
    fine = ~np.isnan(got.loss)
    np.testing.assert_allclose(got.loss[fine], exact.loss[fine], rtol=1e-4)


@pytest.mark.parametrize("low", [0.0, 1e4, 1e6])
def test_next_action_does_not_depend_on_where_the_atoms_lie(isa: str, low: float) -> None:
    """Means of nearby actions differ by less than float32 can tell at 1e6."""
    rng = np.random.default_rng(0)
    logits, following = rng.normal(0, 1, (2, 64, 4, 51)).astype(np.float32)
    arrays = (logits, rng.integers(4, size=64), following, np.zeros(64, np.float32))
    near = c51_loss(*arrays, gamma=1.0, v_min=0.0, v_max=1.0)
    far = c51_loss(*arrays, gamma=1.0, v_min=low, v_max=low + 1)
    np.testing.assert_allclose(far.loss, near.loss, rtol=1e-5)


@pytest.mark.parametrize("ratio", [1, 1.5, 3, 10, 100, 1e4])
def test_positions_of_a_source_wider_than_its_target(isa: str, ratio: float) -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(51), 256).astype(np.float32)
    arrays = probs, rng.normal(size=256).astype(np.float32), np.full(256, 0.99, np.float32)
    span = {"v_min": -10 * ratio, "v_max": 10 * ratio, "target_support": np.linspace(-10, 10, 51)}
    exact = c51_project(*(x.astype(np.float64) for x in arrays), **span)
    assert np.abs(c51_project(*arrays, **span) - exact).max() < 2e-6
