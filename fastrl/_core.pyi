"""
Compiled kernels of fastrl. Private: import fastrl.kernels instead.
"""

from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing

class PPOCategorical:
    """
    PPO's loss and gradient with given coefficients.
    """
    def __call__(
        self,
        y: typing.Any,
        dy: typing.Any,
        action: typing.Any,
        old_log_prob: typing.Any,
        advantage: typing.Any,
        return_: typing.Any,
        stats: typing.Any = None,
        old_value: typing.Any = None,
        action_mask: typing.Any = None,
        scale: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None:
        """
        From y [B, A + 1], logits and then the value, writes the gradient into dy and adds to stats.
        """
    def __init__(
        self,
        *,
        clip_coef: typing.SupportsFloat | typing.SupportsIndex,
        vf_coef: typing.SupportsFloat | typing.SupportsIndex = 0.5,
        ent_coef: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        kl_coef: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        clip_value: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None: ...
    def split(
        self,
        logits: typing.Any,
        value: typing.Any,
        action: typing.Any,
        old_log_prob: typing.Any,
        advantage: typing.Any,
        return_: typing.Any,
        loss: typing.Any,
        d_logits: typing.Any,
        d_value: typing.Any,
        stats: typing.Any = None,
        old_value: typing.Any = None,
        action_mask: typing.Any = None,
        scale: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None:
        """
        The same with logits and value apart, and the loss per sample.
        """

class PPOMultiCategorical:
    """
    PPOCategorical of several choices.
    """
    def __call__(
        self,
        y: typing.Any,
        dy: typing.Any,
        action: typing.Any,
        old_log_prob: typing.Any,
        advantage: typing.Any,
        return_: typing.Any,
        stats: typing.Any = None,
        old_value: typing.Any = None,
        action_mask: typing.Any = None,
        scale: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None:
        """
        From y [B, A + 1], logits and then the value, writes the gradient into dy and adds to stats.
        """
    def __init__(
        self,
        sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        *,
        clip_coef: typing.SupportsFloat | typing.SupportsIndex,
        vf_coef: typing.SupportsFloat | typing.SupportsIndex = 0.5,
        ent_coef: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        kl_coef: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        clip_value: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None: ...
    def split(
        self,
        logits: typing.Any,
        value: typing.Any,
        action: typing.Any,
        old_log_prob: typing.Any,
        advantage: typing.Any,
        return_: typing.Any,
        loss: typing.Any,
        d_logits: typing.Any,
        d_value: typing.Any,
        stats: typing.Any = None,
        old_value: typing.Any = None,
        action_mask: typing.Any = None,
        scale: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None:
        """
        The same with logits and value apart, and the loss per sample.
        """

class PPOGaussian:
    """
    PPO's loss and gradient of a Gaussian policy.
    """
    def __call__(
        self,
        y: typing.Any,
        dy: typing.Any,
        log_std: typing.Any,
        d_log_std: typing.Any,
        action: typing.Any,
        old_log_prob: typing.Any,
        advantage: typing.Any,
        return_: typing.Any,
        stats: typing.Any = None,
        old_value: typing.Any = None,
        scale: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None:
        """
        From y [B, A + 1], means and then the value, and log_std [A], writes the gradient into dy and adds to d_log_std and stats. With log_std None y is [B, 2 A + 1]: means, log_stds, value.
        """
    def __init__(
        self,
        *,
        clip_coef: typing.SupportsFloat | typing.SupportsIndex,
        vf_coef: typing.SupportsFloat | typing.SupportsIndex = 0.5,
        ent_coef: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        kl_coef: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        clip_value: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None: ...
    def split(
        self,
        mean: typing.Any,
        log_std: typing.Any,
        value: typing.Any,
        action: typing.Any,
        old_log_prob: typing.Any,
        advantage: typing.Any,
        return_: typing.Any,
        loss: typing.Any,
        d_mean: typing.Any,
        d_log_std: typing.Any,
        d_value: typing.Any,
        stats: typing.Any = None,
        old_value: typing.Any = None,
        scale: typing.SupportsFloat | typing.SupportsIndex | None = None,
    ) -> None:
        """
        The same with the columns apart, and the loss per sample; d_log_std [A] is added to.
        """

class Tape:
    """
    Activations a forward pass keeps for its backward pass.
    """

class Network:
    """
    A forest of dense layers over one flat parameter vector.
    """
    def __init__(
        self,
        inputs: typing.SupportsInt | typing.SupportsIndex,
        layers: collections.abc.Sequence[
            tuple[
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
            ]
        ],
        duelings: collections.abc.Sequence[
            tuple[
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
            ]
        ],
    ) -> None: ...
    def backward(
        self,
        params: typing.Any,
        tape: Tape,
        dy: typing.Any,
        grad: typing.Any = None,
        dx: typing.Any = None,
    ) -> None: ...
    def forward(self, params: typing.Any, x: typing.Any, y: typing.Any) -> Tape: ...
    def infer(self, params: typing.Any, x: typing.Any, y: typing.Any) -> None: ...
    @property
    def inputs(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def size(self) -> int: ...

class RunningMeanStd:
    """
    Views of statistics: count int64 [1], mean and var float64 [columns].
    """
    def __init__(
        self,
        count: typing.Any,
        mean: typing.Any,
        var: typing.Any,
        clip: typing.SupportsFloat | typing.SupportsIndex,
    ) -> None: ...
    def merge(
        self,
        count: typing.SupportsInt | typing.SupportsIndex,
        mean: typing.Any,
        var: typing.Any,
    ) -> None: ...
    def normalize(self, x: typing.Any, out: typing.Any) -> None: ...
    def update(self, x: typing.Any) -> int:
        """
        Takes in x [rows, columns]; the first column whose variance is not finite, and no change, or -1.
        """

class ReturnNormalizer:
    """
    Views of running returns, float64 [envs], and of the statistics of them all.
    """
    def __init__(
        self,
        running: typing.Any,
        gamma: typing.SupportsFloat | typing.SupportsIndex,
        count: typing.Any,
        mean: typing.Any,
        var: typing.Any,
        clip: typing.SupportsFloat | typing.SupportsIndex,
    ) -> None: ...
    def normalize(self, reward: typing.Any, out: typing.Any) -> None: ...
    def update(
        self, reward: typing.Any, done: typing.Any, valid: typing.Any = None
    ) -> bool:
        """
        Takes in one step; False, and no change, if the variance is not finite.
        """

class FrameStore:
    def __init__(
        self,
        num_envs: typing.SupportsInt | typing.SupportsIndex,
        steps: typing.SupportsInt | typing.SupportsIndex,
        shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
        item_bytes: typing.SupportsInt | typing.SupportsIndex,
        stack_axis: typing.Any,
    ) -> None: ...
    def add(self, obs: typing.Any, next_obs: typing.Any) -> None: ...
    def clear(self) -> None: ...
    def gather(
        self, rows: typing.Any, last: typing.Any, obs: typing.Any, next_obs: typing.Any
    ) -> None: ...
    @property
    def nbytes(self) -> int: ...

class Replay:
    """
    A ring of transitions; see csrc/replay.h and fastrl.replay.
    """
    def __init__(
        self,
        steps: typing.SupportsInt | typing.SupportsIndex,
        streams: typing.SupportsInt | typing.SupportsIndex,
        fields: collections.abc.Sequence[
            tuple[str, numpy.dtype[typing.Any], tuple[int, ...], str]
        ],
        terminated: str | None,
        truncated: str | None,
        window: typing.SupportsInt | typing.SupportsIndex,
        gamma: typing.SupportsFloat | typing.SupportsIndex,
        seed: typing.SupportsInt | typing.SupportsIndex,
        priorities: tuple[
            typing.SupportsFloat | typing.SupportsIndex,
            typing.SupportsFloat | typing.SupportsIndex,
            bool,
        ]
        | None,
        flat: bool,
        frames: collections.abc.Sequence[
            tuple[
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
                typing.SupportsInt | typing.SupportsIndex,
                bool,
            ]
        ],
    ) -> None: ...
    def add(self, arg0: dict[str, typing.Any], arg1: typing.Any) -> int: ...
    def begin_load(self) -> None: ...
    def check_load(
        self,
        arg0: tuple[
            typing.Any,
            typing.Annotated[numpy.typing.ArrayLike, numpy.uint8],
            typing.Any,
            list[typing.Any],
        ],
    ) -> None: ...
    def clear(self) -> None: ...
    def end_episode(self, arg0: typing.Any) -> None: ...
    def end_load(
        self,
        arg0: tuple[
            typing.Any,
            typing.Annotated[numpy.typing.ArrayLike, numpy.uint8],
            typing.Any,
            list[typing.Any],
        ],
    ) -> None: ...
    def frames(
        self,
        arg0: typing.SupportsInt | typing.SupportsIndex,
        arg1: typing.SupportsInt | typing.SupportsIndex,
        arg2: typing.SupportsInt | typing.SupportsIndex,
        arg3: typing.SupportsInt | typing.SupportsIndex,
        arg4: typing.SupportsInt | typing.SupportsIndex,
    ) -> numpy.ndarray: ...
    def gather(self, arg0: typing.Any, arg1: bool) -> dict[str, typing.Any]: ...
    def keep_sequences(
        self,
        arg0: typing.SupportsInt | typing.SupportsIndex,
        arg1: typing.SupportsInt | typing.SupportsIndex,
        arg2: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def load_frames(
        self,
        arg0: typing.SupportsInt | typing.SupportsIndex,
        arg1: typing.SupportsInt | typing.SupportsIndex,
        arg2: typing.SupportsInt | typing.SupportsIndex,
        arg3: typing.Any,
    ) -> None: ...
    def load_rows(
        self,
        arg0: typing.SupportsInt | typing.SupportsIndex,
        arg1: dict[str, typing.Any],
    ) -> None: ...
    def outline(
        self,
    ) -> tuple[
        typing.Any, numpy.typing.NDArray[numpy.uint8], typing.Any, list[typing.Any]
    ]: ...
    def restore(
        self,
        arg0: tuple[int, int, int, float],
        arg1: typing.Any,
        arg2: typing.Any,
        arg3: dict[str, typing.Any],
    ) -> None: ...
    def rows(
        self,
        arg0: typing.SupportsInt | typing.SupportsIndex,
        arg1: typing.SupportsInt | typing.SupportsIndex,
        arg2: typing.SupportsInt | typing.SupportsIndex,
    ) -> dict[str, typing.Any]: ...
    def sample(
        self, arg0: typing.Any, arg1: typing.Any, arg2: bool
    ) -> dict[str, typing.Any]: ...
    def sample_prioritized(
        self,
        arg0: typing.Any,
        arg1: typing.Any,
        arg2: typing.Any,
        arg3: bool,
        arg4: typing.SupportsInt | typing.SupportsIndex,
    ) -> dict[str, typing.Any]: ...
    def sample_sequences(
        self,
        arg0: typing.Any,
        arg1: typing.Any,
        arg2: typing.Any,
        arg3: bool,
        arg4: typing.SupportsInt | typing.SupportsIndex,
    ) -> dict[str, typing.Any]: ...
    def state(
        self,
    ) -> tuple[
        tuple[int, int, int, float],
        numpy.typing.NDArray[numpy.uint8],
        typing.Any,
        dict[str, typing.Any],
    ]: ...
    def update_priorities(
        self, arg0: typing.Any, arg1: typing.Any, arg2: typing.Any
    ) -> None: ...
    @property
    def added(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def max_priority(self) -> float: ...
    @property
    def next_row(self) -> int: ...
    @property
    def stored(self) -> int: ...

class SumTree:
    """
    What fastrl.kernels.SumTree calls; see csrc/sum_tree.h.
    """
    def __init__(
        self,
        capacity: typing.SupportsInt | typing.SupportsIndex,
        alpha: typing.SupportsFloat | typing.SupportsIndex,
        eps: typing.SupportsFloat | typing.SupportsIndex,
        seed: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def find(self, arg0: typing.Any) -> typing.Any: ...
    def get(self, arg0: typing.Any) -> typing.Any: ...
    def leaves(self) -> numpy.typing.NDArray[numpy.float64]: ...
    def load(
        self,
        arg0: typing.Any,
        arg1: typing.SupportsFloat | typing.SupportsIndex,
        arg2: typing.SupportsInt | typing.SupportsIndex,
        arg3: typing.SupportsInt | typing.SupportsIndex,
    ) -> bool: ...
    def min(
        self,
        arg0: typing.SupportsInt | typing.SupportsIndex,
        arg1: typing.SupportsInt | typing.SupportsIndex,
    ) -> float: ...
    def sample(
        self,
        arg0: typing.Any,
        arg1: typing.Any,
        arg2: typing.Any,
        arg3: typing.Any,
        arg4: typing.Any,
    ) -> typing.Any: ...
    def set_leaves(self, arg0: typing.Any, arg1: typing.Any) -> bool: ...
    def sum(
        self,
        arg0: typing.SupportsInt | typing.SupportsIndex,
        arg1: typing.SupportsInt | typing.SupportsIndex,
    ) -> float: ...
    def update(self, arg0: typing.Any, arg1: typing.Any) -> bool: ...
    @property
    def count(self) -> int: ...
    @property
    def counter(self) -> int: ...
    @property
    def largest(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def total(self) -> float: ...

class TransitionTable:
    """
    A finite MDP for stepping; see csrc/transition_table.h.
    """
    def __init__(
        self,
        num_actions: typing.SupportsInt | typing.SupportsIndex,
        offset: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        next_state: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        reward: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        probability: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        terminated: typing.Annotated[numpy.typing.ArrayLike, numpy.bool],
        initial: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        action_mask: typing.Annotated[numpy.typing.ArrayLike, numpy.int8] | None = None,
    ) -> None: ...

class VecEnv:
    """
    N copies of a compiled environment; see csrc/envs.h.
    """
    @typing.overload
    def __init__(
        self,
        kernel: str,
        fast: bool,
        num_envs: typing.SupportsInt | typing.SupportsIndex,
        max_episode_steps: typing.SupportsInt | typing.SupportsIndex,
        autoreset: str,
        options: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex],
        table: TransitionTable | None = None,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 1,
    ) -> None: ...
    @typing.overload
    def __init__(
        self,
        name: str,
        sizes: typing.Annotated[
            collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
            "FixedSize(5)",
        ],
        addresses: typing.Annotated[
            collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
            "FixedSize(3)",
        ],
        owner: typing.Any,
        num_envs: typing.SupportsInt | typing.SupportsIndex,
        max_episode_steps: typing.SupportsInt | typing.SupportsIndex,
        autoreset: str,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def get_rng(self, env: typing.SupportsInt | typing.SupportsIndex) -> bytes:
        """
        The env's PCG64: state and increment, 16 bytes each, has_uint32 and uinteger, 4 each, 8 unused.
        """
    def get_state(self) -> numpy.typing.NDArray[numpy.uint8]: ...
    def infos(self) -> dict[str, typing.Any]:
        """
        Gymnasium's infos of every env's last transition or reset.
        """
    def outputs(self, infos: dict[str, typing.Any]) -> tuple[typing.Any, ...]:
        """
        observation, reward, terminated, truncated in new arrays, infos.
        """
    def reset(
        self,
        mask: typing.Annotated[numpy.typing.ArrayLike, numpy.bool] | None,
        bounds: typing.Annotated[
            collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex],
            "FixedSize(2)",
        ],
    ) -> None: ...
    def seed(self, seeds: collections.abc.Sequence[int | None]) -> None:
        """
        Seeds each env whose entry is not None.
        """
    def set_rng(
        self, env: typing.SupportsInt | typing.SupportsIndex, bytes: bytes
    ) -> None: ...
    def set_state(
        self, bytes: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8]
    ) -> bool:
        """
        False, and no change, for the state of another environment.
        """
    def step(self, actions: typing.Any) -> int | None:
        """
        None if all envs stepped. -1: not int64 [N] or float32 [N, action_size], or never reset; else the first env that cannot step. Then nothing changed.
        """
    def step_infos(self) -> dict[str, typing.Any]:
        """
        Gymnasium's infos of a step, final ones included.
        """
    def step_unchecked(self, actions: typing.Any) -> int | None:
        """
        step, whatever the actions are.
        """
    @property
    def action_size(self) -> int: ...
    @property
    def bounds(self) -> typing.Annotated[list[float], "FixedSize(2)"]: ...
    @property
    def discrete(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def elapsed(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def episode_length(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def episode_return(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def failed(self) -> int: ...
    @property
    def failure(self) -> str: ...
    @property
    def final_discrete(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def final_obs(self) -> numpy.typing.NDArray[numpy.float32]: ...
    @property
    def final_prob(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def has_prob(self) -> bool: ...
    @property
    def needs_reset(self) -> numpy.typing.NDArray[numpy.bool]: ...
    @property
    def num_actions(self) -> int: ...
    @property
    def num_envs(self) -> int: ...
    @property
    def num_states(self) -> int: ...
    @property
    def num_threads(self) -> int: ...
    @property
    def obs(self) -> numpy.typing.NDArray[numpy.float32]: ...
    @property
    def obs_size(self) -> int: ...
    @property
    def prob(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def reward(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def started(self) -> bool: ...
    @property
    def state(self) -> numpy.ndarray: ...
    @property
    def terminated(self) -> numpy.typing.NDArray[numpy.bool]: ...
    @property
    def truncated(self) -> numpy.typing.NDArray[numpy.bool]: ...
    @property
    def whole_reset_prob(self) -> bool: ...

class NotFinite(FloatingPointError):
    pass

class Rollout:
    """
    Collects on-policy rollouts of a compiled environment and a native network.
    """
    def __init__(
        self,
        env: VecEnv,
        network: Network,
        obs: typing.Any,
        action: typing.Any,
        log_prob: typing.Any,
        value: typing.Any,
        next_value: typing.Any,
        reward: typing.Any,
        terminated: typing.Any,
        truncated: typing.Any,
        low: typing.Any = None,
        high: typing.Any = None,
        squash: bool = False,
    ) -> None: ...
    def collect(
        self,
        params: typing.Any,
        seed: typing.SupportsInt | typing.SupportsIndex,
        counter: typing.SupportsInt | typing.SupportsIndex,
        log_std: typing.Any = None,
        gaussian: bool = False,
        sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex] = [],
        obs_normalizer: RunningMeanStd | None = None,
        reward_normalizer: ReturnNormalizer | None = None,
    ) -> tuple[
        numpy.typing.NDArray[numpy.float64],
        numpy.typing.NDArray[numpy.int64],
        float,
        float,
    ]:
        """
        Returns and lengths of the episodes that finished, and the seconds spent in environment and policy.
        """

class Bellman:
    """
    Sweeps over a finite MDP's arrays, which it keeps and does not copy.
    """
    def __init__(
        self,
        pair_offset: typing.Any,
        offset: typing.Any,
        next_state: typing.Any,
        weight: typing.Any,
        reward: typing.Any,
        terminal: typing.Any,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 1,
    ) -> None: ...
    def add_transposed(
        self,
        mass: typing.Any,
        gamma: typing.SupportsFloat | typing.SupportsIndex,
        out: typing.Any,
    ) -> None:
        """
        out [S] += gamma * weight^T mass [L], without terminal states' pairs.
        """
    def backup(
        self,
        value: typing.Any,
        gamma: typing.SupportsFloat | typing.SupportsIndex,
        next_value: typing.Any,
        choice: typing.Any,
        q: typing.Any,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 1,
    ) -> tuple[float, float, int]:
        """
        next_value = T value; least and greatest change, and how many choices changed.
        """
    def components(self) -> numpy.typing.NDArray[numpy.int32]:
        """
        [S]: the strongly connected component of each state; a component leads to none with a greater number.
        """
    def end_components(self, kept: typing.Any) -> numpy.typing.NDArray[numpy.int32]:
        """
        [S]: the maximal end component of the pairs kept [L] that each state is in, or -1; kept becomes the pairs inside them.
        """
    def expect(self, value: typing.Any) -> numpy.typing.NDArray[numpy.float64]:
        """
        [L]: sum of weight times value over each row.
        """
    def gauss_seidel(
        self,
        value: typing.Any,
        gamma: typing.SupportsFloat | typing.SupportsIndex,
        tolerance: typing.SupportsFloat | typing.SupportsIndex,
        max_sweeps: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[float, bool]:
        """
        Sweeps value in place, states in order, until a sweep changes none by more than the tolerance; sweeps and whether one did.
        """
    def prioritized_sweeping(
        self,
        value: typing.Any,
        gamma: typing.SupportsFloat | typing.SupportsIndex,
        tolerance: typing.SupportsFloat | typing.SupportsIndex,
        max_sweeps: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[float, bool]:
        """
        Backs value up in place, the state with the greatest Bellman error next, until none can exceed the tolerance; backups as sweeps, and whether none can.
        """
    def solve_components(
        self,
        value: typing.Any,
        gamma: typing.SupportsFloat | typing.SupportsIndex,
        tolerance: typing.SupportsFloat | typing.SupportsIndex,
        max_sweeps: typing.SupportsInt | typing.SupportsIndex,
        pessimistic: bool,
    ) -> tuple[int, float, bool]:
        """
        Improves value in place, strongly connected parts after those they lead to; components, sweeps and whether each changed by less than the tolerance.
        """
    def toward(
        self, target: typing.Any, kept: typing.Any
    ) -> numpy.typing.NDArray[numpy.int32]:
        """
        [S]: the state's pair, among those kept [L], that may lead a step nearer to target [S]; or -1.
        """
    @property
    def longest(self) -> int:
        """
        Additions that a pair's sum takes one after the other, at most.
        """
    @property
    def mass(self) -> tuple[float, float]:
        """
        Least and greatest weight that a pair gives to states that are not terminal.
        """
    @property
    def reward_range(self) -> tuple[float, float]:
        """
        Least and greatest reward of states that are not terminal.
        """

class PolicyIterator:
    """
    Modified policy iteration, a step at a time.
    """
    def __init__(
        self,
        bellman: typing.Any,
        gamma: typing.SupportsFloat | typing.SupportsIndex,
        value: typing.Any,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def accept(self) -> None:
        """
        value = next_value, moved by what all changes share.
        """
    def evaluate(
        self,
        reduction: typing.SupportsFloat | typing.SupportsIndex,
        most: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[int, float]:
        """
        Sweeps of the greedy policy until the spread of changes is this times improve()'s; sweeps, spread.
        """
    def improve(self) -> tuple[float, float, int]:
        """
        next_value = T value; least and greatest change, and how many choices changed.
        """
    @property
    def choice(self) -> numpy.typing.NDArray[numpy.int32]: ...
    @property
    def next_value(self) -> numpy.typing.NDArray[numpy.float64]: ...
    @property
    def size(self) -> float:
        """
        Greatest absolute value.
        """
    @property
    def value(self) -> numpy.typing.NDArray[numpy.float64]: ...

def act(
    network: Network,
    params: typing.Any,
    obs: typing.Any,
    seed: typing.SupportsInt | typing.SupportsIndex,
    counter: typing.SupportsInt | typing.SupportsIndex,
    log_std: typing.Any = None,
    gaussian: bool = False,
    sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex] = [],
) -> tuple[
    numpy.ndarray,
    numpy.typing.NDArray[numpy.float32],
    numpy.typing.NDArray[numpy.float32],
]:
    """
    Actions, their log-probabilities, and values of an actor-critic.
    """

def adam_step(
    params: typing.Any,
    grad: typing.Any,
    m: typing.Any,
    v: typing.Any,
    t: typing.SupportsInt | typing.SupportsIndex,
    lr: typing.SupportsFloat | typing.SupportsIndex,
    beta1: typing.SupportsFloat | typing.SupportsIndex,
    beta2: typing.SupportsFloat | typing.SupportsIndex,
    eps: typing.SupportsFloat | typing.SupportsIndex,
    max_norm: typing.SupportsFloat | typing.SupportsIndex,
) -> float: ...
def c51_loss(*args: typing.Any) -> typing.Any: ...
def c51_project(*args: typing.Any) -> typing.Any: ...
def categorical_entropy(
    logits: typing.Any,
    entropy: typing.Any,
    action_mask: typing.Any = None,
    sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]
    | None = None,
) -> None:
    """
    Writes the entropy.
    """

def categorical_log_prob(
    logits: typing.Any,
    action: typing.Any,
    log_prob: typing.Any,
    action_mask: typing.Any = None,
    sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]
    | None = None,
) -> None:
    """
    Writes the log-probability of action.
    """

def categorical_mode(
    logits: typing.Any,
    action: typing.Any,
    action_mask: typing.Any = None,
    sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]
    | None = None,
) -> None:
    """
    Writes the most probable action.
    """

def categorical_sample(
    logits: typing.Any,
    action: typing.Any,
    log_prob: typing.Any,
    seed: typing.SupportsInt | typing.SupportsIndex,
    counter: typing.SupportsInt | typing.SupportsIndex,
    uniform: typing.Any = None,
    action_mask: typing.Any = None,
    sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]
    | None = None,
) -> None:
    """
    Draws action and writes it with its log-probability.
    """

def discounted(
    arg0: typing.Any,
    arg1: typing.Any,
    arg2: typing.Any,
    arg3: typing.Any,
    arg4: typing.Any,
    arg5: typing.Any,
    arg6: typing.Any,
) -> typing.Any: ...
def draw_outcomes(
    offset: typing.Any, probability: typing.Any, pair: typing.Any, uniform: typing.Any
) -> numpy.typing.NDArray[numpy.int64]:
    """
    [N]: which of all outcomes each pair has, by inversion of a uniform number for each.
    """

def expectation(*args: typing.Any) -> typing.Any: ...
def gae(
    arg0: typing.Any,
    arg1: typing.Any,
    arg2: typing.Any,
    arg3: typing.Any,
    arg4: typing.Any,
    arg5: typing.Any,
    arg6: typing.Any,
    arg7: typing.Any,
    arg8: typing.Any,
) -> typing.Any: ...
def gaussian_entropy(log_std: typing.Any, entropy: typing.Any) -> None:
    """
    Writes the entropy.
    """

def gaussian_log_prob(
    mean: typing.Any,
    log_std: typing.Any,
    action: typing.Any,
    log_prob: typing.Any,
    squashed: bool = False,
) -> None:
    """
    Writes the log-probability of action, or with squashed of its tanh.
    """

def gaussian_sample(
    mean: typing.Any,
    log_std: typing.Any,
    action: typing.Any,
    log_prob: typing.Any,
    seed: typing.SupportsInt | typing.SupportsIndex,
    counter: typing.SupportsInt | typing.SupportsIndex,
    noise: typing.Any = None,
) -> None:
    """
    Draws action and writes it with its log-probability.
    """

def grayscale(frame: typing.Any, out: typing.Any) -> None: ...
def grayscale_resize(
    frame: typing.Any,
    second: typing.Any,
    out: typing.Any,
    height: typing.SupportsInt | typing.SupportsIndex,
    width: typing.SupportsInt | typing.SupportsIndex,
) -> None: ...
def hl_gauss(*args: typing.Any) -> typing.Any: ...
def isa() -> str:
    """
    Name of the instruction set in use.
    """

def isa_supported(name: str) -> bool:
    """
    Whether this processor can run the named instruction set.
    """

def n_step(
    arg0: typing.Any,
    arg1: typing.Any,
    arg2: typing.Any,
    arg3: typing.Any,
    arg4: typing.Any,
    arg5: typing.Any,
    arg6: typing.Any,
    arg7: typing.Any,
) -> typing.Any: ...
def normalize_advantage(advantage: typing.Any, out: typing.Any) -> None:
    """
    Writes the advantage with mean 0 and standard deviation 1.
    """

def polyak(
    target: typing.Any,
    params: typing.Any,
    tau: typing.SupportsFloat | typing.SupportsIndex,
) -> None: ...
def push_frames(
    ring: typing.Any,
    slot: typing.SupportsInt | typing.SupportsIndex,
    frame: typing.Any,
    begin: typing.Any,
    size: typing.SupportsInt | typing.SupportsIndex,
    padding: typing.Any,
    only: bool,
    out: typing.Any,
) -> None: ...
def q_lambda(
    arg0: typing.Any,
    arg1: typing.Any,
    arg2: typing.Any,
    arg3: typing.Any,
    arg4: typing.Any,
    arg5: typing.Any,
    arg6: typing.Any,
    arg7: typing.Any,
    arg8: typing.Any,
) -> typing.Any: ...
def quantile_huber(*args: typing.Any) -> typing.Any: ...
def retrace(
    arg0: typing.Any,
    arg1: typing.Any,
    arg2: typing.Any,
    arg3: typing.Any,
    arg4: typing.Any,
    arg5: typing.Any,
    arg6: typing.Any,
    arg7: typing.Any,
    arg8: typing.Any,
    arg9: typing.Any,
) -> typing.Any: ...
def set_isa(name: str) -> None:
    """
    Use another instruction set (for tests).
    """

def squash(
    u: typing.Any, low: typing.Any, high: typing.Any, action: typing.Any
) -> None:
    """
    Writes tanh(u), scaled to [low, high].
    """

def td_lambda(
    arg0: typing.Any,
    arg1: typing.Any,
    arg2: typing.Any,
    arg3: typing.Any,
    arg4: typing.Any,
    arg5: typing.Any,
    arg6: typing.Any,
    arg7: typing.Any,
) -> typing.Any: ...
def two_hot(*args: typing.Any) -> typing.Any: ...
def vtrace(
    arg0: typing.Any,
    arg1: typing.Any,
    arg2: typing.Any,
    arg3: typing.Any,
    arg4: typing.Any,
    arg5: typing.Any,
    arg6: typing.Any,
    arg7: typing.Any,
    arg8: typing.Any,
    arg9: typing.Any,
    arg10: typing.Any,
    arg11: typing.Any,
    arg12: typing.Any,
) -> typing.Any: ...
