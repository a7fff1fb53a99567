"""Computes digests of the code that a _target_ names: a changed task file makes another run. Imports none of it."""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

LENGTH = 12  # characters of a digest
SHIPPED = ("tasks", "optimizers")  # packages whose code counts wherever it is installed
SCHEDULES = ("s3bench.schedule", "s3bench.run.ramp")  # of the harness only these count; the record has its commit
OPTIM = "s3bench.optim."  # hands on what is in optimizers
STDLIB = Path(sysconfig.get_path("stdlib")).resolve()
INSTALLED = {"site-packages", "dist-packages"}


def forget() -> None:
    """Forget what was read: the next digests are of the files as they are then."""
    for cached in (digest, _module, _parsed):
        cached.cache_clear()


class Module(NamedTuple):
    """A module's source."""

    name: str
    file: Path

    @property
    def is_package(self) -> bool:
        """Whether it is the __init__.py of a package."""
        return self.file.stem == "__init__"

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


@cache
def digest(target: str) -> str:
    """Return the digest of the source of the module at this import path and of everything it imports.

    Only project code counts: the packages tasks and optimizers, the schedules, and whatever lies neither in the
    standard library nor in site-packages. For a library the record has its version instead. Comments, docstrings and
    formatting do not count. The digest is "" if none of it is project code, or if the module cannot be found or read,
    which its import reports later.
    """
    if target.startswith(OPTIM):
        target = f"optimizers.{target.removeprefix(OPTIM)}"
    found: dict[str, str] = {}
    waiting = [_module(target)]
    while waiting:
        module = waiting.pop()
        if module is None or module.name in found or (tree := _parsed(module.file)) is None:
            continue
        found[module.name] = ast.unparse(_without_docstrings(tree))
        if module.name not in SCHEDULES:
            waiting += [_module(name) for name in _imports(tree, module)]
    text = "\n".join(f"# {name}\n{source}" for name, source in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH] if found else ""


@cache
def _module(path: str) -> Module | None:
    """Return the project module that an import path such as optimizers.S3 leads to; None if there is none."""
    top, *rest = path.split(".")
    name, (file, places) = top, _top_level(top)
    while rest and (inner := _submodule(places, rest[0])):
        file, places = inner
        name = f"{name}.{rest.pop(0)}"
    if file is None or not _is_own(name, file):
        return None
    module = Module(name, file)
    if rest and module.is_package and (tree := _parsed(file)):
        for source, alias in _imported_names(tree, module):
            if alias == rest[0] and source != path:  # the package only passes it on: optimizers/__init__.py
                return _module(".".join([source, *rest[1:]]))
    return module


Found = tuple[Path | None, list[str]]  # a module's source, and where its submodules lie


def _top_level(name: str) -> Found:
    """Find a module whose name has no dots; Python imports nothing to find it."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # no name of a module, or one without a file, such as __main__
        spec = None
    if spec is None:
        return None, []
    source = Path(spec.origin) if spec.has_location and spec.origin and spec.origin.endswith(".py") else None
    return source, list(spec.submodule_search_locations or [])


def _submodule(places: list[str], name: str) -> Found | None:
    """Find a submodule as Python does, but without importing the packages above it, and torch with them."""
    for place in places:
        package, file = Path(place, name), Path(place, f"{name}.py")
        if (package / "__init__.py").is_file():
            return package / "__init__.py", [str(package)]
        if file.is_file():
            return file, []
    folders = [str(Path(place, name)) for place in places if Path(place, name).is_dir()]
    return (None, folders) if folders else None


def _is_own(name: str, file: Path) -> bool:
    top = name.split(".")[0]
    if top == "s3bench":
        return name in SCHEDULES
    place = file.resolve()
    return top in SHIPPED or not (place.is_relative_to(STDLIB) or INSTALLED & set(place.parts))


def _imports(tree: ast.Module, module: Module) -> list[str]:
    """Return the import paths of everything that a module imports, anywhere in it."""
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return plain + [name for name, _ in _imported_names(tree, module)]


def _imported_names(tree: ast.Module, module: Module) -> Iterator[tuple[str, str]]:
    """Yield A.B and C of each `from A import B as C` in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = module.package.split(".")[: 1 - node.level or None] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            yield from ((f"{source}.{alias.name}", alias.asname or alias.name) for alias in node.names)


@cache
def _parsed(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *rest]:
                    node.body = rest
    return tree
