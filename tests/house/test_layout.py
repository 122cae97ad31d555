"""
The house: packages, names, and the mirror of sources in tests.

What is checked here is what a stranger relies on: a map at the door of each package, names that collide with nothing,
and a test file for every source file, at the place where one looks for it.
"""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.places import CHECKOUT

TOP_LEVEL = sorted(
    path.parent.name for path in CHECKOUT.glob("*/__init__.py") if path.parent.name != "tests"
)
PACKAGES = sorted(
    path.parent for top in TOP_LEVEL for path in (CHECKOUT / top).rglob("__init__.py")
)
SOURCES = sorted(path for top in TOP_LEVEL for path in (CHECKOUT / top).rglob("*.py"))
MODULES = [path for path in SOURCES if path.name != "__init__.py"]
TESTS = sorted((CHECKOUT / "tests").rglob("*.py"))

# Sources without a test file of their own, and why.
UNMIRRORED = {
    **{
        f"config/{name}.py": "sections without behaviour, held by test_schema.py, test_section.py and the tests of clashes"
        for name in ("processes", "routes", "tenants", "trials")
    },
    "loadtests/mock/exchange.py": "records without behaviour",
    "proxy/__main__.py": "the command line, tested whole in tests/integration/test_up.py",
    "proxy/options.py": "a record without behaviour",
    "proxy/relay.py": "one attempt, told as a part of its exchange in test_exchange.py, test_survival.py and test_leaving.py",
}

# Spelled apart, so that this file does not hold what it looks for.
UNFINISHED = re.compile(
    "|".join(
        (
            r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b",
            "NotImplemented" + "Error",
            r"pytest\.(?:sk" + r"ip|importor" + r"skip|xf" + r"ail)\b",
            r"mark\.(?:sk" + r"ip|xf" + r"ail)",
        )
    )
)


def relative(path: Path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


@pytest.mark.parametrize("package", PACKAGES, ids=relative)
def test_a_package_opens_with_a_map(package: Path) -> None:
    """One docstring that says what the package owns."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    said = ast.get_docstring(tree)
    assert said
    assert len(said) >= 20
    assert said.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_top_level_name_is_ours_alone(name: str) -> None:
    """Plain names are fine for an application as long as nothing else that it can import has them."""
    assert name not in sys.stdlib_module_names
    assert name not in importlib.metadata.packages_distributions()


def expected_tests(path: Path) -> Iterator[Path]:
    """Say where one looks for a source's tests."""
    folder = CHECKOUT / "tests" / path.relative_to(CHECKOUT).parent
    yield folder / f"test_{path.stem.strip('_')}.py"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_source_file_has_its_test_file(path: Path) -> None:
    """`proxy/wire/sse.py` is tested in `tests/proxy/wire/test_sse.py`."""
    mirrored = any(test.exists() for test in expected_tests(path))
    excused = relative(path) in UNMIRRORED
    assert mirrored or excused, f"expected {[relative(test) for test in expected_tests(path)]}"
    assert not (mirrored and excused), "it has a test file: take it off the list"


def test_excuses_are_of_files_that_exist() -> None:
    """A list of exceptions is short and current."""
    assert [name for name in UNMIRRORED if not (CHECKOUT / name).exists()] == []
    assert len(UNMIRRORED) <= 8


def test_test_directories_are_no_packages() -> None:
    """Tests are found by path (importmode importlib), so two of them may have the same name."""
    assert [relative(path) for path in TESTS if path.name == "__init__.py"] == []


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=relative)
def test_nothing_is_left_unfinished(path: Path) -> None:
    """What is not done is not in the tree; a test that does not run proves nothing."""
    found = UNFINISHED.findall(path.read_text(encoding="utf-8"))
    assert found == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_importing_does_nothing(path: Path) -> None:
    """At the top of a module there are definitions; calls that print, open, start or set belong in functions."""
    effects = {"print", "open", "exit", "input", "exec", "eval"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for statement in tree.body:
        if isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test):
            continue
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for node in ast.walk(statement):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            assert not (called and node.func.id in effects), ast.unparse(statement)
        assert not isinstance(statement, ast.For | ast.While | ast.With | ast.Delete), ast.unparse(
            statement
        )


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_a_test_states_its_law(path: Path) -> None:
    """Every test module says what it is about, and every test what must hold."""
    if path.name == "conftest.py" or not path.name.startswith("test_"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module says what it holds against what"
    silent = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []
