"""Turns a script's tree into Python closures, once; then it runs as often as it is called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from . import values
from .expressions import Environment, ExpressionCompiler, Frame, Many, One
from .parser import Parser
from .syntax import (
    Assignment,
    Break,
    CallStatement,
    Do,
    Expression,
    FunctionBody,
    GenericFor,
    If,
    Index,
    Local,
    LocalAssignment,
    LocalFunction,
    NumericFor,
    Prototype,
    Repeat,
    Return,
    Statement,
    Variable,
    While,
)
from .values import Function, LuaError, Table, Value

Step: TypeAlias = Callable[[Frame], Any]
"""Runs a statement: None to go on, ``_BREAK``, or the values that the function returns."""
_BREAK: Final = object()


def load(text: bytes, environment: Environment) -> Function:
    """The script as a function.

    Raises:
        ScriptSyntaxError: it is no Lua, or uses more of it than is offered here.
    """
    return _Compiler(environment).function(_parsed(text))([])


@functools.lru_cache(maxsize=256)
def _parsed(text: bytes) -> Prototype:
    # What is parsed names no server, so that all those of a process share it: tests make thousands of them.
    return Parser(text).script()


def _put(container: Value, key: Value, value: Value) -> None:
    if type(container) is not Table:
        raise LuaError(b"attempt to index a " + values.type_name(container) + b" value")
    container.set(key, value)


class _Compiler:
    def __init__(self, environment: Environment) -> None:
        self._expressions = ExpressionCompiler(environment, self.function)

    def function(self, prototype: Prototype) -> Callable[[Frame], Function]:
        """What makes a function of a prototype, in the frame of the one around it."""
        body = self._block(prototype.body)
        outer = [variable.slot for variable in prototype.outer]
        own = prototype.slots - len(outer)
        parameters = [(variable.slot, variable.captured) for variable in prototype.parameters]
        taken = len(parameters)

        def close(enclosing: Frame) -> Function:
            cells = [enclosing[slot] for slot in outer]

            def function(*arguments: Value) -> Sequence[Value]:
                frame: Frame = cells + [None] * own
                frame.append(arguments[taken:])
                for (slot, captured), value in zip(parameters, arguments, strict=False):
                    frame[slot] = [value] if captured else value
                for slot, captured in parameters[len(arguments) :]:
                    if captured:
                        frame[slot] = [None]
                returned = body(frame)
                return () if returned is None else returned

            return function

        return close

    # statements

    def _block(self, statements: Sequence[Statement]) -> Step:
        steps = [self._statement(statement) for statement in statements]
        if len(steps) == 1:
            return steps[0]

        def block(frame: Frame) -> Any:
            for step in steps:
                outcome = step(frame)
                if outcome is not None:
                    return outcome
            return None

        return block

    def _statement(self, node: Statement) -> Step:
        compile_one: dict[type, Callable[[Any], Step]] = {
            LocalAssignment: self._local_assignment,
            LocalFunction: self._local_function,
            Assignment: self._assignment,
            CallStatement: self._call,
            If: self._if,
            While: self._while,
            Repeat: self._repeat,
            NumericFor: self._numeric_for,
            GenericFor: self._generic_for,
        }
        if isinstance(node, Do):
            return self._block(node.body)
        if isinstance(node, Return):
            return self._expressions.list(node.values)
        if isinstance(node, Break):
            return lambda _frame: _BREAK
        return compile_one[type(node)](node)

    def _call(self, node: CallStatement) -> Step:
        many = self._expressions.many(node.call)

        def call(frame: Frame) -> None:
            many(frame)

        return call

    def _local_assignment(self, node: LocalAssignment) -> Step:
        variables = [(variable.slot, variable.captured) for variable in node.variables]
        if len(variables) == 1 and len(node.values) == 1:
            (slot, captured), one = variables[0], self._expressions.one(node.values[0])

            def assign_one(frame: Frame) -> None:
                value = one(frame)
                frame[slot] = [value] if captured else value

            return assign_one
        many = self._expressions.list(node.values)

        def assign(frame: Frame) -> None:
            found = many(frame)
            for number, (slot, captured) in enumerate(variables):
                value = found[number] if number < len(found) else None
                frame[slot] = [value] if captured else value

        return assign

    def _local_function(self, node: LocalFunction) -> Step:
        slot, captured = node.variable.slot, node.variable.captured
        close = self._expressions.one(FunctionBody(node.prototype))

        def declare(frame: Frame) -> None:
            if captured:
                frame[slot] = [None]  # before the function is made: it may call itself
                frame[slot][0] = close(frame)
            else:
                frame[slot] = close(frame)

        return declare

    def _assignment(self, node: Assignment) -> Step:
        if len(node.targets) == 1 and len(node.values) == 1:
            store, one = self._store(node.targets[0]), self._expressions.one(node.values[0])

            def assign_one(frame: Frame) -> None:
                store(frame, one(frame))

            return assign_one
        places = [self._place(target) for target in node.targets]
        many = self._expressions.list(node.values)

        def assign(frame: Frame) -> None:
            # as the original does it: every place and value is known before the first is stored, and the last is first
            puts = [place(frame) for place in places]
            found = many(frame)
            for number in range(len(puts) - 1, -1, -1):
                puts[number](found[number] if number < len(found) else None)

        return assign

    def _place(self, target: Expression) -> Callable[[Frame], Callable[[Value], None]]:
        """Where one of several values goes: its table and key are found when it is called, and no later."""
        if not isinstance(target, Index):
            return functools.partial(functools.partial, self._store(target))
        table, key = self._expressions.one(target.table), self._expressions.one(target.key)
        return lambda frame: functools.partial(_put, table(frame), key(frame))

    def _store(self, target: Expression) -> Callable[[Frame, Value], None]:
        if isinstance(target, Local):
            return _store_local(target.variable)
        if isinstance(target, Index):
            table, key = self._expressions.one(target.table), self._expressions.one(target.key)

            def store(frame: Frame, value: Value) -> None:
                _put(table(frame), key(frame), value)

            return store
        name: bytes = target.name  # type: ignore[union-attr]  # the parser lets nothing else through

        def refuse(_frame: Frame, _value: Value) -> None:
            raise LuaError(b"Script attempted to create global variable '" + name + b"'")

        return refuse

    def _if(self, node: If) -> Step:
        branches = [(self._expressions.one(test), self._block(body)) for test, body in node.branches]
        otherwise = self._block(node.otherwise)

        def choose(frame: Frame) -> Any:
            for test, body in branches:
                value = test(frame)
                if value is not None and value is not False:
                    return body(frame)
            return otherwise(frame)

        return choose

    def _while(self, node: While) -> Step:
        test, body = self._expressions.one(node.condition), self._block(node.body)

        def loop(frame: Frame) -> Any:
            while (value := test(frame)) is not None and value is not False:
                outcome = body(frame)
                if outcome is not None:
                    return None if outcome is _BREAK else outcome
            return None

        return loop

    def _repeat(self, node: Repeat) -> Step:
        body, until = self._block(node.body), self._expressions.one(node.until)

        def loop(frame: Frame) -> Any:
            while True:
                outcome = body(frame)
                if outcome is not None:
                    return None if outcome is _BREAK else outcome
                value = until(frame)
                if value is not None and value is not False:
                    return None

        return loop

    def _numeric_for(self, node: NumericFor) -> Step:
        start, stop = self._expressions.one(node.start), self._expressions.one(node.stop)
        step: One = self._expressions.one(node.step) if node.step is not None else lambda _frame: 1.0
        store, body = _declare_local(node.variable), self._block(node.body)

        def loop(frame: Frame) -> Any:
            numbers = [values.to_number(each(frame)) for each in (start, stop, step)]
            at, last, by = numbers
            if at is None or last is None or by is None:
                raise LuaError(b"'for' initial value, limit and step must be numbers")
            while at <= last if by > 0 else at >= last:
                store(frame, at)
                outcome = body(frame)
                if outcome is not None:
                    return None if outcome is _BREAK else outcome
                at += by
            return None

        return loop

    def _generic_for(self, node: GenericFor) -> Step:
        iterator: Many = self._expressions.list(node.values)
        stores = [_declare_local(variable) for variable in node.variables]
        body = self._block(node.body)

        def loop(frame: Frame) -> Any:
            function, state, control = [*iterator(frame), None, None, None][:3]
            if not callable(function):
                raise LuaError(b"attempt to call a " + values.type_name(function) + b" value")
            while True:
                found = function(state, control)
                control = found[0] if found else None
                if control is None:
                    return None
                for number, store in enumerate(stores):
                    store(frame, found[number] if number < len(found) else None)
                outcome = body(frame)
                if outcome is not None:
                    return None if outcome is _BREAK else outcome

        return loop


def _declare_local(variable: Variable) -> Callable[[Frame, Value], None]:
    """Each turn of a loop has variables of its own."""
    slot, captured = variable.slot, variable.captured

    def declare(frame: Frame, value: Value) -> None:
        frame[slot] = [value] if captured else value

    return declare


def _store_local(variable: Variable) -> Callable[[Frame, Value], None]:
    slot, captured = variable.slot, variable.captured

    def store(frame: Frame, value: Value) -> None:
        if captured:
            frame[slot][0] = value
        else:
            frame[slot] = value

    return store
