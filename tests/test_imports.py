"""What importing costs, and that the library's rooms are entered in one direction only."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fastmlp

ROOT = Path(fastmlp.__file__).parent
HEAVY = ("cupy", "matplotlib", "optuna", "pandas", "psycopg", "sklearn", "sqlalchemy", "torch")

#: From the ground floor up; a room imports only from rooms before it. Every other module lies above them.
GROUND_FLOORS = [
    "errors", "files", "run_folders", "intervals", "tensor_files", "seeds", "cpu", "memory", "cache",
    "kernels.activations", "kernels.masks", "kernels.reference", "kernels.chains", "kernels.denormals",
    "kernels.numpy_inplace", "kernels.thread_choice", "kernels.c_library", "kernels.c_calls", "kernels.compiled",
    "kernels.cuda_modules", "kernels.cublas", "kernels.cupy_fused", "kernels", "gpu", "backend", "initializers",
    "schedules", "layout", "layers", "dropout", "checks", "data.rows_on_disk", "data.validate", "data.standardize",
    "network", "parameters", "shuffling", "augmentation", "examples", "optimizers", "evaluation", "history",
    "progress", "recording", "steps", "good_state", "trainer", "precise_bn", "checkpoints", "training",
]


def module_name(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def top_level(body):
    """The statements that run on import: not those in functions, not those for type checkers only."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for inner in ("body", "orelse", "finalbody", "handlers"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from top_level(getattr(node, inner, []))


def imported(nodes):
    """Full names of what is imported: `a.b` for `import a.b`, `a.b.c` for `from a.b import c`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(names):
    """Which of the library's modules are meant."""
    for name in names:
        if name.split(".")[0] == "fastmlp":
            rest = name.removeprefix("fastmlp").lstrip(".")
            while rest and rest not in MODULES:
                rest = rest.rpartition(".")[0]
            if rest:
                yield rest


GRAPH = {name: set(own(imported(top_level(tree.body)))) - {name} for name, tree in MODULES.items()}


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=ROOT.parent).stdout.split()


@pytest.mark.parametrize("statement", ["import fastmlp", "import fastmlp.training, fastmlp.gradcheck, fastmlp.model"])
def test_importing_the_library_imports_no_heavy_one(statement):
    loaded = run(f"{statement}; import sys; print(*sys.modules)")
    assert "fastmlp" in loaded
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)


def test_the_subprocess_would_notice_a_heavy_import():
    assert "sklearn" in run("import fastmlp, sklearn, sys; print(*sys.modules)")


def test_training_on_the_cpu_imports_no_heavy_library():
    loaded = run("import fastmlp, sys; fastmlp.check_gradients(fastmlp.NetworkSpec(3, (2,), 2)); print(*sys.modules)")
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)


def test_modules_import_each_other_without_a_circle():
    order = list(TopologicalSorter(GRAPH).static_order())       # raises CycleError with the circle in it
    assert set(order) == set(MODULES)


def test_the_graph_sees_imports():
    assert {"errors", "kernels.activations"} <= set(GRAPH)
    assert GRAPH["network"] >= {"backend", "layout", "initializers"}


def test_the_ground_floors_import_downwards_only():
    for place, name in enumerate(GROUND_FLOORS):
        assert GRAPH[name] <= set(GROUND_FLOORS[:place]), name


def test_only_two_modules_import_cupy():
    importing = {name for name, tree in MODULES.items()
                 if any(module.split(".")[0] in ("cupy", "cupyx") for module in imported(ast.walk(tree)))}
    assert importing <= {"backend", "gpu"}
    assert "backend" in importing


def test_no_module_imports_cupy_at_its_top():
    for name, tree in MODULES.items():
        assert not any(module.split(".")[0] in HEAVY for module in imported(top_level(tree.body))
                       ) or name.startswith("estimator"), name


def test_the_librarys_names_can_be_listed_and_others_are_refused_by_name():
    assert dir(fastmlp) == sorted(fastmlp.__all__)
    assert all(getattr(fastmlp, name) is not None for name in fastmlp.__all__)
    with pytest.raises(AttributeError, match="module 'fastmlp' has no attribute 'nothing'"):
        _ = fastmlp.nothing
