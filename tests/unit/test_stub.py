"""The typing stub of the extension module says what the module offers, no more and no less."""

import ast
import inspect
import re
from pathlib import Path

import tricorn
from tricorn import _core

STUB = ast.parse((Path(tricorn.__file__).parent / "_core.pyi").read_text())
# For type checkers only.
TYPES = {"SettingRow"}


def public(names):
    return {name for name in names if not name.startswith("_")}


def declared(body):
    """Functions (name -> parameters), classes (name -> node) and plain names of a part of the stub."""
    functions, classes, names = {}, {}, set()
    for node in body:
        if isinstance(node, ast.FunctionDef):
            parameters = [argument.arg for argument in node.args.args]
            functions[node.name] = [name for name in parameters if name != "self"]
            if node.decorator_list:
                names.add(node.name)
                del functions[node.name]
        elif isinstance(node, ast.ClassDef):
            classes[node.name] = node
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
    return functions, classes, names


def real_parameters(function):
    signature = function.__text_signature__ or "()"
    return [
        name
        for name in re.findall(r"[$\w]+", signature)
        if name.isidentifier() and name not in ("self", "None")
    ]


def test_the_functions_are_those_of_the_module():
    functions, _, _ = declared(STUB.body)
    real = {
        name: real_parameters(getattr(_core, name))
        for name in public(dir(_core))
        if callable(getattr(_core, name))
    }
    real = {name: value for name, value in real.items() if not inspect.isclass(getattr(_core, name))}
    assert functions == real


def test_the_classes_are_those_of_the_module():
    _, classes, _ = declared(STUB.body)
    real = {name for name in public(dir(_core)) if inspect.isclass(getattr(_core, name))}
    assert classes.keys() - TYPES == real


def test_the_members_are_those_of_the_classes():
    _, classes, _ = declared(STUB.body)
    for name in classes.keys() - TYPES:
        members = vars(getattr(_core, name))
        functions, _, names = declared(classes[name].body)
        assert public(functions) | public(names) == public(members), name
        for method in public(functions):
            assert functions[method] == real_parameters(members[method]), (name, method)
