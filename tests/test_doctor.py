"""``fastrl doctor``: facts of this process, quotas of control groups, what is broken and what is missing."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from fastrl import _core, extras, kernels
from fastrl.cli import main
from fastrl.doctor import cpu_quota, diagnose
from fastrl.kernels import _dispatch


def run(*words, **environment):
    command = [sys.executable, "-m", "fastrl", "doctor", *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def test_report_says_what_runs_here(tmp_path):
    report = diagnose(tmp_path / "new" / "runs")
    assert report.versions["numpy"] == np.__version__
    assert report.versions["fastrl"] == "0.1.0"
    assert report.isa == _core.isa()
    assert report.isas == [isa for isa in ("baseline", "avx2", "avx512") if _core.isa_supported(isa)]
    assert report.cores_allowed == len(os.sched_getaffinity(0))
    assert report.backends.keys() == set(kernels.__all__)
    gae = [name for name, reason in report.backends["gae"].items() if not reason]
    assert tuple(gae) == _dispatch.available("returns", "gae")
    assert report.backends["gae"]["numba"] == "returns has no numba backend"
    assert set(report.default_backend.values()) == {"cpp"}
    assert report.runs_free_bytes is not None
    assert report.problems == []
    assert list(tmp_path.iterdir()) == []


def test_text_and_json(tmp_path, capsys):
    assert main(["doctor", "--runs", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["runs"] == str(tmp_path)
    assert report["default_backend"]["gae"] == "cpp"
    assert main(["doctor", "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for word in (
        f"numpy {np.__version__}",
        "instruction set",
        report["isa"],
        "cpp (default)",
        "OMP_NUM_THREADS",
    ):
        assert word in out


def test_an_instruction_set_that_cannot_run_is_said_and_is_the_exit_status(tmp_path):
    done = run("--runs", str(tmp_path), FASTRL_ISA="sse9")
    assert done.returncode == 1, done.stderr
    assert "PROBLEM" in done.stdout
    assert "FASTRL_ISA must be baseline, avx2 or avx512, got sse9" in done.stdout


@pytest.mark.parametrize(
    ("backend", "problem"),
    [
        ("numba", "FASTRL_BACKEND=numba: gae: returns has no numba backend"),
        ("fortran", "FASTRL_BACKEND=fortran: gae: there is no such backend"),
    ],
)
def test_a_backend_that_cannot_run_is_a_problem(backend, problem, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FASTRL_BACKEND", backend)
    assert main(["doctor", "--runs", str(tmp_path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert problem in report["problems"]
    assert report["default_backend"]["gae"] is None


def test_a_forced_backend_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTRL_BACKEND", "reference")
    report = diagnose(tmp_path)
    assert report.default_backend["gae"] == "reference"
    assert report.problems == []


def test_a_file_in_the_way_of_runs_is_a_problem(tmp_path):
    (tmp_path / "file").write_text("")
    report = diagnose(tmp_path / "file" / "runs")
    assert report.runs_free_bytes is None
    assert "run folders cannot be made in" in report.problems[0]


def test_a_torch_that_does_not_import_is_a_problem(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no libcudart')\n")
    done = run("--runs", str(tmp_path), PYTHONPATH=f"{tmp_path}:{Path(__file__).parents[1]}")
    assert done.returncode == 1
    assert "torch is installed but does not import: no libcudart" in done.stdout


def test_more_threads_than_cores_are_advised_against(tmp_path, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "4096")
    assert any("MKL_NUM_THREADS=4096 is more than" in line for line in diagnose(tmp_path).advice)


def test_quota_of_control_groups(tmp_path):
    membership = tmp_path / "cgroup"
    root = tmp_path / "fs"
    assert cpu_quota(root, membership) is None
    membership.write_text("0::/a/b\n")
    for folder, limit in (("a/b", "max 100000"), ("a", "150000 100000"), (".", "400000 100000")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "cpu.max").write_text(limit + "\n")
    assert cpu_quota(root, membership) == 1.5
    membership.write_text("3:cpuset:/a\n2:cpu,cpuacct:/a\n1:name=systemd:/\n")
    folder = root / "cpu" / "a"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(root, membership) is None
    (folder / "cpu.cfs_quota_us").write_text("50000\n")
    assert cpu_quota(root, membership) == 0.5


def test_extras_are_those_of_pyproject(monkeypatch):
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra, packages in extras.EXTRAS.items():
        declared = [requirement.split(">=")[0] for requirement in project["optional-dependencies"][extra]]
        assert declared == list(packages.values())


def test_what_is_missing_of_an_extra_comes_with_its_command(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "onnx" else object())
    assert extras.missing("onnx") == ["onnx"]
    extras.require("torch", "this")
    with pytest.raises(
        extras.MissingExtraError, match=r"^export needs onnx \(extra \[onnx\]\): pip install onnx$"
    ):
        extras.require("onnx", "export")
    assert "onnx" in diagnose().extras
