"""What this machine offers fastrl, what it does not and why: the content of ``fastrl doctor``."""

import importlib
import inspect
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from fastrl import __version__, _core, extras, kernels
from fastrl.kernels import _dispatch

PACKAGES = (
    "numpy", "numba", "gymnasium", "safetensors", "tyro", "rich", "matplotlib",
    "torch", "triton", "onnx", "onnxruntime", "moviepy", "pygame-ce",
)  # fmt: skip
ISAS = ("baseline", "avx2", "avx512")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
DEVICE_ADVICE = (
    "networks that are small MLPs (64x64, say) train fastest on the CPU, by the native kernels: one such "
    "layer takes less time than a GPU needs to start a kernel. Large networks and images are for a GPU."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``diagnose`` found."""

    versions: dict[str, str | None]
    """fastrl, python and packages; None: not installed."""
    system: str
    """Operating system and machine."""
    processor: str
    """Model name."""
    cores: int
    """Logical processors of the machine."""
    cores_allowed: int
    """Those that this process may run on (affinity)."""
    cpu_quota: float | None
    """Processors' worth of time that the control group grants; None: no limit."""
    isa: str | None
    """Instruction set that the kernels use; None: FASTRL_ISA names one that cannot run."""
    isas: list[str]
    """Instruction sets that this processor can run."""
    threads: dict[str, str | None]
    """Environment variables that set numbers of threads."""
    devices: dict[str, str]
    """What "cpu" and "cuda" are here, or why there is none."""
    backends: dict[str, dict[str, str]]
    """For each op and backend "" where it runs on the CPU, else why not."""
    default_backend: dict[str, str | None]
    """For each op the backend that runs unless one is named; None: none can."""
    runs: str
    """Folder that run folders are made in."""
    runs_free_bytes: int | None
    """Free space there; None: it cannot be written."""
    extras: dict[str, str]
    """For each extra that is not complete the command that completes it."""
    advice: list[str]
    """What would make training faster."""
    problems: list[str]
    """What is broken."""


def diagnose(runs: Path = Path("runs")) -> Report:
    """Look at this machine and process.

    Imports torch and triton where they are installed, to see whether they work and which devices they see.

    Args:
        runs: folder that run folders would be made in.
    """
    problems: list[str] = []
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota()
    threads = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    backends = {op: _backends(op) for op in kernels.__all__}
    return Report(
        versions={
            "fastrl": __version__,
            "python": platform.python_version(),
            **{package: _version(package) for package in PACKAGES},
        },
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        cores_allowed=allowed,
        cpu_quota=quota,
        isa=_isa(problems),
        isas=[name for name in ISAS if _core.isa_supported(name)],
        threads=threads,
        devices={"cpu": "native kernels", "cuda": _cuda(problems)},
        backends=backends,
        default_backend={op: _default(op, reasons, problems) for op, reasons in backends.items()},
        runs=str(runs),
        runs_free_bytes=_free_bytes(runs, problems),
        extras={extra: extras.pip_command(extra) for extra in extras.EXTRAS if extras.missing(extra)},
        advice=[*_thread_advice(threads, allowed, quota), DEVICE_ADVICE],
        problems=problems,
    )


def cpu_quota(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> float | None:
    """Processors' worth of time that the control groups (v1 or v2) of this process grant; None: no limit."""
    quotas = []
    for line in _read(membership).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        folder = top / group.lstrip("/")
        while folder.is_relative_to(top):  # a limit of any group above holds as well
            if controllers:
                words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
            else:
                words = _read(folder / "cpu.max").split()
            if len(words) == 2 and all(word.isdecimal() for word in words):
                quotas.append(int(words[0]) / int(words[1]))
            folder = folder.parent
    return min(quotas, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _isa(problems: list[str]) -> str | None:
    try:
        return _core.isa()
    except ValueError as error:
        problems.append(str(error))
        return None


def _cuda(problems: list[str]) -> str:
    if find_spec("torch") is None:
        return "torch is not installed"
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        problems.append(f"torch is installed but does not import: {error}")
        return "torch does not import"
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        return f"torch sees no GPU ({built})"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


_KERNEL_OF = {
    "multi_categorical_entropy": "categorical_entropy",
    "multi_categorical_log_prob": "categorical_log_prob",
    "multi_categorical_mode": "categorical_mode",
    "multi_categorical_sample": "categorical_sample",
}
"""Ops that run another one's kernels."""


def _backends(op: str) -> dict[str, str]:
    function = getattr(kernels, op)
    if "backend" not in inspect.signature(function).parameters:
        return {"cpp": ""}
    family = function.__module__.split(".")[2]
    op = _KERNEL_OF.get(op, op)
    return {name: _why_not(family, op, name) for name in _dispatch.BACKENDS}


def _why_not(family: str, op: str, backend: str) -> str:
    try:
        return _dispatch._load(family, op, "cpu", backend)[1]
    except (ImportError, OSError) as error:  # a torch or triton that is there but broken
        return str(error)


def _default(op: str, reasons: Mapping[str, str], problems: list[str]) -> str | None:
    named = os.environ.get("FASTRL_BACKEND")
    if named is None or reasons.keys() == {"cpp"}:
        return next((name for name in _dispatch.PREFERENCE["cpu"] if reasons.get(name) == ""), None)
    if reasons.get(named) == "":
        return named
    problems.append(f"FASTRL_BACKEND={named}: {op}: {reasons.get(named, 'there is no such backend')}")
    return None


def _free_bytes(folder: Path, problems: list[str]) -> int | None:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problems.append(f"run folders cannot be made in {folder}: {existing} cannot be written")
        return None
    return shutil.disk_usage(existing).free


def _thread_advice(threads: Mapping[str, str | None], allowed: int, quota: float | None) -> list[str]:
    usable = allowed if quota is None else max(1, min(allowed, int(quota)))
    advice = [f"a run computes on one thread; --seeds 0..9 --threads {usable} uses the cores there are"]
    if usable < allowed:
        advice.append(
            f"the control group grants the time of {quota:g} of {allowed} processors, which libraries do not "
            f"see: set OMP_NUM_THREADS={usable}"
        )
    for name, value in threads.items():
        if value is not None and value.isdecimal() and int(value) > usable:
            advice.append(f"{name}={value} is more than the {usable} processors there are")
    if threads["OMP_NUM_THREADS"] is None and find_spec("torch") is not None and usable > 1:
        advice.append("with torch networks set OMP_NUM_THREADS=1: small ones lose time to more threads")
    return advice


def describe(report: Report) -> list[tuple[str, str]]:
    """The report for people: rows of a name and a text."""
    installed = ", ".join(f"{name} {version}" for name, version in report.versions.items() if version)
    absent = ", ".join(name for name, version in report.versions.items() if version is None)
    granted = "" if report.cpu_quota is None else f", the time of {report.cpu_quota:g}"
    forced = f"; FASTRL_ISA={os.environ['FASTRL_ISA']}" if os.environ.get("FASTRL_ISA") else ""
    free = (
        "cannot be written"
        if report.runs_free_bytes is None
        else f"{report.runs_free_bytes / 1e9:.1f} GB free"
    )
    rows = [
        ("versions", installed),
        ("not installed", absent or "-"),
        ("system", report.system),
        (
            "processor",
            f"{report.processor}: {report.cores}, this process may use {report.cores_allowed}{granted}",
        ),
        ("instruction set", f"{report.isa or 'none'} of {', '.join(report.isas)}{forced}"),
        ("threads", ", ".join(f"{name}={value or '(not set)'}" for name, value in report.threads.items())),
        *report.devices.items(),
    ]
    for op, reasons in report.backends.items():
        runs = [
            name + " (default)" * (name == report.default_backend[op])
            for name in reasons
            if not reasons[name]
        ]
        why_not = "; ".join(f"not {name}: {reason}" for name, reason in reasons.items() if reason)
        rows.append((op, "; ".join(filter(None, [", ".join(runs), why_not]))))
    rows.append(("run folders", f"{report.runs}, {free}"))
    rows += [(f"extra [{name}]", f"not complete: {command}") for name, command in report.extras.items()]
    rows += [("advice", line) for line in report.advice]
    rows += [("PROBLEM", line) for line in report.problems]
    return rows
