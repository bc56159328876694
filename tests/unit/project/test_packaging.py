"""What is installed for a role is what the role imports, and the wheel holds what it should."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Each part of the tree, with the extras that are installed where it runs.
INSTALLED = {
    "services/keeptune/runtime": ["service"],
    "services/keeptune/search": ["search"],
    "services/keeptune/training": ["training"],
    "services/keeptune/evaluation": ["evaluation"],
    "services/keeptune/deployment": ["deployment"],
    "services/keeptune/retuning": ["retuning"],
    "services/keeptune/composition": ["all"],
    "agent/keeptune/agent": ["agent"],
    "clients/python/keeptune/client": [],
    "clients/python/keeptune/cli": [],
    "clients/python/keeptune/demo": ["demo"],
}
# Copied onto the serving host, where they run in an environment of their own.
ON_THE_SERVING_HOST = ("agent/keeptune/agent/shim",)
# Shared by the two services that read datasets, and imported by nobody else.
FOR_DATASETS = {
    "services/keeptune/runtime/columns.py": "pyarrow",
    "services/keeptune/runtime/datasets.py": "pyarrow",
}
# Used where they are installed; the commands say so where they are not.
OPTIONAL = {
    "clients/python/keeptune/cli/checks/services.py": "fsspec",
    "clients/python/keeptune/cli/plot.py": "matplotlib",
    "clients/python/keeptune/client/imports/optuna_study.py": "optuna",
}
# The public tools that we are compared with, and what those are set up with: the benchmarks leave
# out those that are not installed.
PEERS = {"ConfigSpace", "ax", "hebo", "jax", "optuna", "pymoo", "ray", "smac", "vizier"}
THIS_DISTRIBUTION = "keeptune"


def requirements(extras: list[str]) -> set[str]:
    """The distributions that an installation with these extras asks for by name."""
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    found: set[str] = set()
    for requirement in map(Requirement, texts):
        if requirement.name == THIS_DISTRIBUTION:
            found |= requirements(sorted(requirement.extras))
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def imported(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*.py")):
        if str(path.relative_to(ROOT)).startswith(ON_THE_SERVING_HOST):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name.partition(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield path, node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("part", "extras"),
    [*INSTALLED.items(), ("tests", ["all", "dev"])],
    ids=lambda value: str(value),
)
def test_a_role_installs_what_it_imports(part: str, extras: list[str]) -> None:
    providers = packages_distributions()
    installed = requirements(extras)
    missing = {}
    for path, module in imported(ROOT / part):
        if module in sys.stdlib_module_names or module in ("keeptune", "buf", "tests"):
            continue
        if (path.parent / f"{module}.py").exists():  # a script and the module beside it
            continue
        if (FOR_DATASETS | OPTIONAL).get(str(path.relative_to(ROOT))) == module:
            continue
        if module in PEERS and path.is_relative_to(ROOT / "tests/bench"):
            continue
        if not installed & {canonicalize_name(name) for name in providers.get(module, [])}:
            missing[module] = str(path.relative_to(ROOT))
    assert not missing, f"not among the dependencies of {extras or 'the client'}"


@pytest.mark.parametrize("role", ["training", "evaluation"])
def test_who_reads_datasets_has_what_it_takes(role: str) -> None:
    assert set(FOR_DATASETS.values()) <= requirements([role])


def test_an_agent_has_no_heavy_dependency() -> None:
    heavy = {"torch", "pandas", "scikit-learn", "scipy", "sqlalchemy", "onnxruntime"}
    assert not requirements(["agent"]) & heavy


def test_every_dependency_is_pinned() -> None:
    wanted = requirements(["all", "bench", "dev"])
    pinned = {
        canonicalize_name(Requirement(line).name)
        for name in ("all", "torch")
        for line in (ROOT / "constraints" / f"{name}.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert not wanted - pinned, "run `make constraints`"


def test_every_entry_point_leads_to_something() -> None:
    targets = [*PROJECT["scripts"].values()]
    for group in PROJECT["entry-points"].values():
        targets += group.values()
    for target in targets:
        module, _, name = target.partition(":")
        path = Path(*module.split("."))
        files = [
            ROOT / root / candidate
            for root in ("services", "agent", "clients/python")
            for candidate in (path.with_suffix(".py"), path / "__init__.py")
        ]
        (source,) = [file.read_text() for file in files if file.is_file()]
        assert name in source, target


def test_the_wheel_holds_all_portions_and_the_stubs(tmp_path: Path) -> None:
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"buf/validate/validate_pb2.py", "keeptune/v1/search_pb2_grpc.pyi"} <= names
    for part in INSTALLED:
        assert f"keeptune/{Path(part).name}/__init__.py" in names
    assert not {"keeptune/__init__.py", "buf/__init__.py"} & names
    # Files that are no Python but are needed at run time travel along.
    for part in INSTALLED:
        for path in (ROOT / part).rglob("*"):
            if path.suffix in (".html", ".mako", ".yaml", ".typed"):
                assert f"keeptune/{path.relative_to((ROOT / part).parent)}" in names
