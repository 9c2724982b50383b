"""Turns expressions of the tree into Python closures over a frame: the list of a running function's variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from . import values
from .syntax import (
    Binary,
    Call,
    Constant,
    Expression,
    FunctionBody,
    Global,
    Index,
    Local,
    MethodCall,
    Parenthesized,
    Prototype,
    TableConstructor,
    Unary,
    Varargs,
)
from .values import Function, LuaError, Table, Value

Frame: TypeAlias = list[Any]
"""Slots of the variables; the last slot holds what ``...`` stands for."""
One: TypeAlias = Callable[[Frame], Value]
Many: TypeAlias = Callable[[Frame], Sequence[Value]]


class Environment:
    """What the names that are no locals stand for."""

    def __init__(self, names: dict[bytes, Value], string_methods: Table) -> None:
        self.names = names
        self.string_methods = string_methods

    def look_up(self, name: bytes) -> Value:
        """A global name's value; Redis refuses those that there are not."""
        try:
            return self.names[name]
        except KeyError:
            raise LuaError(b"Script attempted to access nonexistent global variable '" + name + b"'") from None


MakeFunction: TypeAlias = Callable[[Prototype], Callable[[Frame], Function]]


class ExpressionCompiler:
    """Compiles expressions. ``make_function`` compiles the bodies of functions in them."""

    def __init__(self, environment: Environment, make_function: MakeFunction) -> None:
        self.environment = environment
        self._make_function = make_function

    # one value

    def one(self, node: Expression) -> One:
        """An expression where one value is wanted."""
        if isinstance(node, Constant):
            constant = node.value
            return lambda _frame: constant
        if isinstance(node, Local):
            slot = node.variable.slot
            if node.variable.captured:
                return lambda frame: frame[slot][0]
            return lambda frame: frame[slot]
        if isinstance(node, Global):
            look_up, names, name = self.environment.look_up, self.environment.names, node.name
            return lambda _frame: names[name] if name in names else look_up(name)
        if isinstance(node, Index):
            return self._index(node)
        if isinstance(node, Parenthesized):
            return self.one(node.inner)
        if isinstance(node, Binary):
            return self._binary(node)
        if isinstance(node, Unary):
            return _UNARY[node.operator](self.one(node.operand))
        if isinstance(node, TableConstructor):
            return self._table(node)
        if isinstance(node, FunctionBody):
            return self._make_function(node.prototype)
        many = self.many(node)

        def first(frame: Frame) -> Value:
            found = many(frame)
            return found[0] if found else None

        return first

    def _index(self, node: Index) -> One:
        table, key = self.one(node.table), self.one(node.key)
        # Nearly every index in a script is a name or a small number that stands there: half of a script's time.
        if isinstance(node.key, Constant) and type(node.key.value) is bytes:
            return self._named(table, node.key.value)
        if isinstance(node.key, Constant) and type(node.key.value) is float and node.key.value.is_integer():
            return self._numbered(table, node.key.value)
        methods = self.environment.string_methods

        def index(frame: Frame) -> Value:
            container = table(frame)
            return values.index(methods if type(container) is bytes else container, key(frame))

        return index

    def _named(self, table: One, name: bytes) -> One:
        methods = self.environment.string_methods

        def index(frame: Frame) -> Value:
            container = table(frame)
            if type(container) is Table:
                return container.fields.get(name)
            return values.index(methods if type(container) is bytes else container, name)

        return index

    def _numbered(self, table: One, number: float) -> One:
        place = int(number) - 1

        def index(frame: Frame) -> Value:
            container = table(frame)
            if type(container) is Table and 0 <= place < len(container.array):
                return container.array[place]
            return values.index(container, number)

        return index

    def _binary(self, node: Binary) -> One:
        left, right = self.one(node.left), self.one(node.right)
        if node.operator in {"==", "~="} and isinstance(node.right, Constant) and type(node.right.value) is bytes:
            constant, same = node.right.value, node.operator == "=="
            return lambda frame: (left(frame) == constant) is same
        if node.operator == "and":

            def conjunction(frame: Frame) -> Value:
                value = left(frame)
                return value if value is None or value is False else right(frame)

            return conjunction
        if node.operator == "or":

            def disjunction(frame: Frame) -> Value:
                value = left(frame)
                return right(frame) if value is None or value is False else value

            return disjunction
        operation = _BINARY[node.operator]
        return lambda frame: operation(left(frame), right(frame))

    def _table(self, node: TableConstructor) -> One:
        array = self.list(node.array)
        fields = [(self.one(key), self.one(value)) for key, value in node.fields]

        def table(frame: Frame) -> Table:
            elements = list(array(frame))
            while elements and elements[-1] is None:
                elements.pop()
            made = Table(elements)
            for key, value in fields:
                made.set(key(frame), value(frame))
            return made

        return table

    # any number of values

    def many(self, node: Expression) -> Many:
        """An expression where any number of values is welcome: a call or ``...`` gives all it has."""
        if isinstance(node, Call):
            function, arguments = self.one(node.function), self.list(node.arguments)

            def call(frame: Frame) -> Sequence[Value]:
                target = function(frame)
                if not callable(target):
                    raise LuaError(b"attempt to call a " + values.type_name(target) + b" value")
                found: Sequence[Value] = target(*arguments(frame))
                return found

            return call
        if isinstance(node, MethodCall):
            return self._method(node)
        if isinstance(node, Varargs):
            return lambda frame: frame[-1]
        one = self.one(node)
        return lambda frame: (one(frame),)

    def _method(self, node: MethodCall) -> Many:
        target, name, arguments = self.one(node.target), node.name, self.list(node.arguments)
        methods = self.environment.string_methods

        def call(frame: Frame) -> Sequence[Value]:
            receiver = target(frame)
            function = values.index(methods if type(receiver) is bytes else receiver, name)
            if not callable(function):
                raise LuaError(b"attempt to call method '" + name + b"' (a " + values.type_name(function) + b" value)")
            result: Sequence[Value] = function(receiver, *arguments(frame))
            return result

        return call

    def list(self, nodes: Sequence[Expression]) -> Many:
        """Several expressions: one value of each, and all of the last."""
        if not nodes:
            return lambda _frame: ()
        firsts = [self.one(node) for node in nodes[:-1]]
        last_node = nodes[-1]
        if isinstance(last_node, (Call, MethodCall, Varargs)):
            last = self.many(last_node)
            return lambda frame: (*[first(frame) for first in firsts], *last(frame))
        ones = [*firsts, self.one(last_node)]
        if len(ones) == 1:
            only = ones[0]
            return lambda frame: (only(frame),)
        if len(ones) == 2:
            one, two = ones
            return lambda frame: (one(frame), two(frame))
        if len(ones) == 3:
            one, two, three = ones
            return lambda frame: (one(frame), two(frame), three(frame))
        return lambda frame: [each(frame) for each in ones]


def _divide(left: Value, right: Value) -> float:
    a, b = values.arithmetic(left), values.arithmetic(right)
    if b == 0.0:
        return math.nan if a == 0.0 or a != a else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def _modulo(left: Value, right: Value) -> float:
    a, b = values.arithmetic(left), values.arithmetic(right)
    if b == 0.0 or math.isinf(a) or math.isinf(b):
        return math.nan
    return a - math.floor(a / b) * b


def _power(left: Value, right: Value) -> float:
    try:
        return math.pow(values.arithmetic(left), values.arithmetic(right))
    except (OverflowError, ValueError):
        return math.inf


def _plus(left: Value, right: Value) -> float:
    return values.arithmetic(left) + values.arithmetic(right)


def _minus(left: Value, right: Value) -> float:
    return values.arithmetic(left) - values.arithmetic(right)


def _times(left: Value, right: Value) -> float:
    return values.arithmetic(left) * values.arithmetic(right)


_BINARY: Final[dict[str, Callable[[Value, Value], Value]]] = {
    "+": _plus,
    "-": _minus,
    "*": _times,
    "/": _divide,
    "%": _modulo,
    "^": _power,
    "..": values.joined,
    "==": values.equal,
    "~=": lambda left, right: not values.equal(left, right),
    "<": values.less,
    ">": lambda left, right: values.less(right, left),
    "<=": lambda left, right: not values.less(right, left) if left == left and right == right else False,
    ">=": lambda left, right: not values.less(left, right) if left == left and right == right else False,
}


def _negation(operand: One) -> One:
    def negate(frame: Frame) -> bool:
        value = operand(frame)
        return value is None or value is False

    return negate


_UNARY: Final[dict[str, Callable[[One], One]]] = {
    "not": _negation,
    "-": lambda operand: lambda frame: -values.arithmetic(operand(frame)),
    "#": lambda operand: lambda frame: values.length(operand(frame)),
}
