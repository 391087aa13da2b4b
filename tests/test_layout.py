"""The house rules that a machine can check: arrows between modules, lengths, docstrings."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = sorted((ROOT / "fastrl").glob("**/*.py")) + sorted((ROOT / "kernels").glob("**/*.py"))
PYTHON = [path for path in PYTHON if "fastrl/kernels" not in path.as_posix()]
BENCH = [path for path in sorted((ROOT / "bench").glob("**/*.py")) if ".peers" not in path.parts]
CPP = sorted((ROOT / "csrc").glob("**/*.[ch]*"))
BENCH = [path for path in sorted((ROOT / "bench").glob("**/*.py")) if ".peers" not in path.parts]

# What each part may import, besides itself: arrows run one way.
BASE = {"_core", "kernels"}
NETWORKS = {"networks", "optimizers", "torch_networks", "cnn", "observations", "distributions", "policies"}
NETWORKS |= {"sequences", "torch_recurrent", "torch_gru", "torch_device"}
MIDDLE = BASE | NETWORKS | {"schedules", "normalize", "envs", "sources", "replay", "minibatches", "recurrent"}
OUTPUT = {"checkpoint", "state", "logging", "tensorboard", "display", "plotting", "statistics"}
ARROWS = {
    "kernels": {"_core"},
    "networks": BASE,
    "optimizers": BASE | {"networks"},
    "cnn": set(),
    "torch_networks": BASE | {"networks", "cnn", "torch_device"},
    "torch_device": BASE | {"networks", "torch_networks"},
    "arrays": {"kernels"},
    "sequences": {"networks"},
    "torch_gru": set(),
    "torch_recurrent": {"networks", "sequences", "cnn", "torch_networks", "torch_gru"},
    "observations": set(),
    "distributions": BASE | {"networks"},
    "policies": BASE | NETWORKS | {"normalize"},
    "envs": BASE | {"normalize", "tabular"},
    "tabular": BASE,
    "normalize": BASE,
    "replay": BASE | {"checkpoint", "durable", "state"},
    "sources": MIDDLE,
    "minibatches": {"sequences", "sources"},
    "recurrent": {"networks", "sequences", "policies", "sources", "minibatches"},
    "device": (MIDDLE | {"arrays"}) - {"recurrent"},
    "kinds": MIDDLE | {"device"},
    "evaluate": {"envs"},
    "durable": set(),
    "checkpoint": {"state", "durable"},
    "plotting": {"logging", "statistics"},
    "runs": {"logging"},
    "presets": set(),
    "extras": set(),
    "doctor": {"_core", "kernels", "extras"},
    "video": {"algorithms", "envs", "extras"},
    "export": {"algorithms", "distributions", "networks", "normalize", "policies", "recurrent", "extras"},
    "loop": {"checkpoint", "evaluate", "logging", "runs", "display"},
    "algorithms": MIDDLE | OUTPUT | {"loop", "arrays", "kinds"},
    "seeds": {"loop", "algorithms"},
}


def parts_imported(path):
    """Top-level parts of fastrl that a file imports, type-checking blocks left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return {name.split(".")[1] for name in found if name.startswith("fastrl.")}


def part_of(path):
    relative = path.relative_to(ROOT)
    if relative.parts[0] == "kernels":
        return "kernels"
    return relative.parts[1].removesuffix(".py")


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows(path):
    part = part_of(path)
    if part in ARROWS:
        allowed = ARROWS[part] | {part, "__version__"}
        assert parts_imported(path) <= allowed


def test_loop_names_no_algorithm():
    assert "algorithms" not in parts_imported(ROOT / "fastrl/loop.py")


def test_nothing_imports_the_integrations():
    importing = {part_of(path) for path in PYTHON if "integrations" in parts_imported(path)}
    assert importing <= {"integrations"}


@pytest.mark.parametrize(
    "path",
    [*PYTHON, *CPP, *(ROOT / "tests").glob("**/*.py"), *BENCH],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_a_file_has_at_most_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def code_lines(path):
    """Lines of code without docstrings, comments, blanks, and configuration dataclasses."""
    text = path.read_text()
    skip = set()
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            skip |= set(range(node.lineno, node.end_lineno + 1))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            skip |= set(range(node.lineno, node.end_lineno + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (
            tokenize.COMMENT,
            tokenize.NL,
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
        ):
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - skip)


@pytest.mark.parametrize("path", sorted((ROOT / "fastrl/algorithms").glob("[!_]*.py")), ids=lambda p: p.name)
def test_an_algorithm_has_at_most_150_lines_of_code(path):
    assert code_lines(path) <= 150


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "module"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    setter = any(".setter" in ast.unparse(d) for d in member.decorator_list)
                    assert setter or ast.get_docstring(member), f"{node.name}.{member.name}"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_every_public_op_is_tested_and_in_the_readme():
    import fastrl.kernels as kernels

    readme = (ROOT / "README.md").read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").glob("**/test_*.py"))
    assert kernels.__all__
    for name in kernels.__all__:
        assert f"`{name}`" in readme, f"{name} has no README row"
        assert f"{name}(" in tests, f"{name} has no test"


def test_kernels_refuse_another_name():
    code = "import kernels"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "import fastrl.kernels, not 'kernels'" in result.stderr


def test_import_is_light():
    code = "import fastrl, sys; print(*sorted({'torch', 'numba', 'triton', 'matplotlib', 'scipy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
