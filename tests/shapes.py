"""What checks shapes and types while tests run: beartype on each function and dataclass of umbel, names of axes within one call."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any, TypeVar, cast, final, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, jaxtyped
from jaxtyping._storage import get_shape_memo

WHOLE = BeartypeConf(is_pep484_tower=True, violation_type=TypeError)  # a whole number is a float, too; what Python itself would raise
MARK = "__checked__"
PLAIN = re.compile(r"(([a-z]\w*|\d+)( ([a-z]\w*|\d+))*)?")  # axes that are names, or lengths, and nothing else
Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)


def shaped(annotation: object) -> bool:
    """Whether it names an array's shape anywhere."""
    return (isinstance(annotation, type) and issubclass(annotation, AbstractArray)) or any(map(shaped, get_args(annotation)))


def names_shapes(function: Callable[..., Any]) -> bool:
    """Whether it takes or gives arrays of told shape; one whose annotations cannot be read yet may."""
    try:
        return any(map(shaped, inspect.get_annotations(function, eval_str=True).values()))
    except NameError:
        return True


def checked(function: Function) -> Function:
    """The same, which refuses what its annotations do not allow.

    An axis has one length within a call. Functions that name no shapes get by with beartype alone: the book of lengths costs more
    than all else that a test does.
    """
    typed = beartype(conf=WHOLE)(function)
    if not names_shapes(function):
        return typed

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        with jaxtyped("context"):
            return typed(*args, **kwargs)

    return cast(Function, call)


def mark(cls: Class) -> Class:
    """A dataclass that checks what it is made of; any other class as it is: its methods are marked themselves."""
    if is_dataclass(cls) and "__init__" in vars(cls):
        cls.__init__ = checked(vars(cls)["__init__"])  # type: ignore[method-assign]
    return cls


@final
class Marker(ast.NodeTransformer):
    """Marks functions of modules and classes; those within functions are made anew at each call, and stay as they are."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Innermost: before it becomes a property or a method of the class."""
        node.decorator_list.append(ast.Name(MARK, ast.Load()))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Outermost: after it became a dataclass."""
        node.decorator_list.insert(0, ast.Name(MARK, ast.Load()))
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.If:
        """What is imported for the reader of types alone is read here, too."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.test = ast.Constant(True)
        return node


@final
class Loader(SourceFileLoader):
    """Loads a module with its functions checked, and leaves no bytecode where others would find it."""

    def get_code(self, fullname: str) -> CodeType:
        """From its source, each time."""
        tree = Marker().visit(ast.parse(self.get_data(self.path), self.path))
        return compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        """Where the mark has its meaning."""
        vars(module)[MARK] = lambda marked: mark(marked) if isinstance(marked, type) else checked(marked)
        super().exec_module(module)


@final
class Finder(MetaPathFinder):
    """Finds the modules of a package for that loader."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """None for any other package."""
        if fullname.split(".")[0] != self.package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(fullname, spec.loader.path)
        return spec


@final
class Lengths:
    """Whether an array is what an annotation says: jaxtyping's answer, and of a kind and dtype that it once found right, the axes' alone.

    A name is quick to look up; jaxtyping's own way took a quarter of what tests of models take.
    """

    def __init__(self, ask: Callable[[Any, Any], bool]) -> None:
        self.ask = ask
        self.axes: dict[tuple[object, ...], tuple[str, ...]] = {}  # by annotation, kind of array and dtype that were right together

    def __call__(self, annotation: type[AbstractArray], array: object) -> bool:
        """A length that was told before in this call holds; what is not right leaves none behind."""
        form = (annotation, type(array), getattr(array, "dtype", None))
        axes = self.axes.get(form)
        if axes is None:
            right = self.ask(annotation, array)
            if right and PLAIN.fullmatch(annotation.dim_str):
                self.axes[form] = tuple(annotation.dim_str.split())
            return right
        told: dict[str, int] = get_shape_memo()[0]  # type: ignore[no-untyped-call]
        lengths, shape = told.copy(), getattr(array, "shape", ())
        if len(axes) != len(shape):
            return False
        for axis, length in zip(axes, shape, strict=True):
            if lengths.setdefault(axis, int(axis) if axis.isdecimal() else length) != length:
                return False
        told.update(lengths)
        return True


def check(package: str) -> None:
    """From here on, what is imported of it is checked."""
    asked: Any = type(AbstractArray)
    lengths = Lengths(asked.__instancecheck__)
    asked.__instancecheck__ = lambda annotation, array: lengths(annotation, array)
    sys.meta_path.insert(0, Finder(package))
