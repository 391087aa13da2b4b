"""Files of finite MDPs: what was saved comes back, and anything else is a ValueError that names the file."""

import numpy as np
import pytest

from fastrl.tabular import MDP, solve, zoo


def contents(mdp, path):
    with np.load(mdp.save(path), allow_pickle=False) as file:
        return dict(file)


SPARSE = {
    "num_states": [np.array(0), np.array(-1), np.array(16.0), np.array([16]), np.array("16")],
    "pair_offset": [np.arange(3), np.arange(17) * 4, np.zeros(17, np.int64), np.zeros(17)],
    "action": [np.zeros(3, np.int64), np.zeros(()), np.zeros(56), None],
    "probability": [np.ones(3), np.ones((56, 16)), np.ones(56, np.float32), np.array("x"), None],
    "offset": [np.zeros(57, np.int32), np.arange(57)[::-1], np.arange(57.0), np.arange(3), np.arange(57) + 1, None],
    "next_state": [np.zeros(56), np.zeros(3, np.int32), np.full(56, 99, np.int32), np.zeros(56, np.int64), None],
    "reward": [np.zeros(3), np.array(["a"] * 56), np.full(56, np.nan), np.zeros((56, 1)), None],
    "outcome_reward": [np.zeros(3), np.zeros(56, int)],
    "reward_variance": [np.zeros(57)],
    "discount": [np.zeros(3), np.full(56, 2.0)],
    "terminal": [np.zeros(16, int), np.zeros(3, bool)],
    "initial": [np.array([5.0, -4.0]), np.ones(16), np.array(3)],
    "grid": [np.array([3, 3]), np.array([4.0, 4.0]), np.array([16]), np.array([-4, -4]), np.array("4x4")],
    "action_names": [np.arange(4), np.array("a")],
    "format": [np.array("fastrl-mdp-2")],
    "surprise": [np.zeros(1)],
}  # fmt: skip
CASES = [(name, i) for name, values in SPARSE.items() for i in range(len(values))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_arrays_that_do_not_fit(name, number, tmp_path):
    path = tmp_path / "lake.npz"
    arrays = contents(zoo.gridworld(), path)
    bad = SPARSE[name][number]
    if bad is None:
        del arrays[name]
    else:
        arrays[name] = bad
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"MDP load: .*lake\.npz"):
        MDP.load(path)


@pytest.mark.parametrize("name", ["probability", "discount", "outcome_reward"])
def test_dense_arrays_that_do_not_fit(name, tmp_path):
    path = tmp_path / "cars.npz"
    arrays = contents(zoo.jacks_car_rental(max_cars=2, max_moves=1), path)
    arrays[name] = np.ones((3, 9))
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=rf"MDP load: .*cars\.npz .*{name} must be float64 \[\d+, 9\]"):
        MDP.load(path)


def test_any_byte_may_be_wrong(tmp_path):
    path = tmp_path / "model.npz"
    whole = zoo.random_walk(3).save(path).read_bytes()
    same, refused = MDP.load(path), []
    for place in range(0, len(whole), 5):
        for change in (0x01, 0x20, 0x80):
            damaged = bytearray(whole)
            damaged[place] ^= change
            path.write_bytes(damaged)
            try:
                found = MDP.load(path)
            except ValueError as error:
                refused.append(str(path) in str(error))
            else:
                np.testing.assert_array_equal(found.reward, same.reward)
                solve(found, 0.9)
    assert all(refused)
    assert len(refused) > 1000


def test_other_files_and_folders(tmp_path):
    path = tmp_path / "array.npz"
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match=r"MDP load: .*array\.npz"):
        MDP.load(path)
    for make in (zoo.forest().save, solve(zoo.forest(), 0.9).save):
        target = tmp_path / f"new {make.__func__.__qualname__}" / "deep" / "saved"
        assert make(target) == target
        assert target.is_file()
    assert MDP.load(tmp_path / "new MDP.save" / "deep" / "saved").num_states == 3


def test_names_of_actions_are_kept(tmp_path):
    mdp = zoo.jacks_car_rental(max_cars=2, max_moves=1)
    assert MDP.load(mdp.save(tmp_path / "cars.npz")).action_names == ("-1", "0", "+1")
