"""The formulas of a config: columns with + - * : ( ) 0 1 and a few functions.

Nothing else is passed on to formulaic, which would run any Python.
"""

import ast

from job import InputError

FUNCTIONS = ("log", "log2", "log10", "bs", "cr", "poly")
CURVES = {"bs", "cr", "poly"}  # functions that make several columns, tested together


def parse(formula: str, setting: str) -> ast.expr:
    """The syntax tree of a formula, `:` as matrix product. InputError for anything that is not allowed."""
    text = formula.strip().removeprefix("~").strip()
    allowed = f"use columns, + - * : ( ) 0 1 and {', '.join(FUNCTIONS)} in {setting}"
    try:
        tree = ast.parse(text.replace(":", "@"), mode="eval").body
    except SyntaxError as error:
        raise InputError(f"{setting}: {formula!r} is not a formula; {allowed}") from error
    if any(sign in text for sign in "@#\n") or not _is_formula(tree):
        raise InputError(f"{setting}: {formula!r} has what a formula may not have; {allowed}")
    return tree


def _is_formula(node: ast.expr) -> bool:
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.MatMult(), right):
            return _is_formula(left) and _is_formula(right)
        case ast.UnaryOp(ast.USub(), ast.Constant(value)) | ast.Constant(value):
            return type(value) is int and value in (0, 1)
        case ast.Call(ast.Name(function), [ast.Name(), *values], keywords):
            values = [*values, *(keyword.value for keyword in keywords)]
            return function in FUNCTIONS and all(map(_is_constant, values))
    return isinstance(node, ast.Name)


def _is_constant(node: ast.expr) -> bool:
    """A number, text or truth value, or a list of them (knots)."""
    return all(
        isinstance(item, ast.Constant) for item in (node.elts if isinstance(node, ast.List) else [node])
    )


def variables_of(tree: ast.expr) -> tuple[list[str], set[str]]:
    """Columns that a formula names, in order, and those of them inside a function."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    functions = {id(call.func) for call in calls}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in functions]
    names.sort(key=lambda node: node.col_offset)
    return list(dict.fromkeys(node.id for node in names)), {call.args[0].id for call in calls}


def is_curve(tree: ast.expr) -> bool:
    """Whether a function that makes several columns is in a formula."""
    return not CURVES.isdisjoint(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
