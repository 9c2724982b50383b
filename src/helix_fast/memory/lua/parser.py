"""The grammar of Lua 5.1, by recursive descent: words to the tree of :mod:`.syntax`."""

from __future__ import annotations

from typing import Final

from .syntax import (
    Assignment,
    Binary,
    Break,
    Call,
    CallStatement,
    Constant,
    Do,
    Expression,
    FunctionBody,
    GenericFor,
    Global,
    If,
    Index,
    Local,
    LocalAssignment,
    LocalFunction,
    MethodCall,
    NumericFor,
    Parenthesized,
    Prototype,
    Repeat,
    Return,
    ScriptSyntaxError,
    Statement,
    TableConstructor,
    Token,
    Unary,
    Varargs,
    Variable,
    While,
    tokens,
)

# How tightly an operator binds on its left and on its right: `..` and `^` group to the right.
_BINDING: Final = {
    "or": (1, 1), "and": (2, 2), "<": (3, 3), ">": (3, 3), "<=": (3, 3), ">=": (3, 3), "~=": (3, 3), "==": (3, 3),
    "..": (5, 4), "+": (6, 6), "-": (6, 6), "*": (7, 7), "/": (7, 7), "%": (7, 7), "^": (10, 9),
}  # fmt: skip
_UNARY_BINDING: Final = 8
_BLOCK_ENDS: Final = frozenset({"end", "else", "elseif", "until", "end of script"})


class _Scope:
    """The names of one function: blocks of names, innermost last."""

    def __init__(self, parent: _Scope | None) -> None:
        self.parent = parent
        self.prototype = Prototype()
        self.blocks: list[dict[bytes, Variable]] = [{}]
        self._captures: dict[Variable, Variable] = {}
        self._declared: list[Variable] = []

    def declare(self, name: bytes) -> Variable:
        variable = Variable(len(self._declared))
        self._declared.append(variable)
        self.blocks[-1][name] = variable
        return variable

    def resolve(self, name: bytes) -> Variable | None:
        for block in reversed(self.blocks):
            if name in block:
                return block[name]
        outer = self.parent.resolve(name) if self.parent is not None else None
        if outer is None:
            return None
        if outer not in self._captures:
            outer.captured = True
            inner = self._captures[outer] = Variable(-1)
            inner.captured = True
        return self._captures[outer]

    def finish(self, body: list[Statement]) -> Prototype:
        """Give out the slots: first what comes from outside."""
        prototype = self.prototype
        prototype.body = body
        prototype.outer = list(self._captures)
        for slot, variable in enumerate([*self._captures.values(), *self._declared]):
            variable.slot = slot
        prototype.slots = len(self._captures) + len(self._declared)
        return prototype


class Parser:
    """Reads one script."""

    def __init__(self, text: bytes) -> None:
        self._tokens = tokens(text.decode("latin-1"))
        self._at = 0
        self._scope = _Scope(None)

    def script(self) -> Prototype:
        """The whole script, as a function that takes anything."""
        self._scope.prototype.variadic = True
        body = self._block()
        self._expect("end of script")
        return self._scope.finish(body)

    # words

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, kind: str) -> bool:
        if self._next.kind == kind:
            self._at += 1
            return True
        return False

    def _expect(self, kind: str) -> Token:
        token = self._take()
        if token.kind != kind:
            raise ScriptSyntaxError(f"line {token.line}: expected {kind!r}, found {token.kind!r}")
        return token

    def _name(self) -> bytes:
        value = self._expect("name").value
        assert isinstance(value, bytes)
        return value

    # statements

    def _scoped_block(self) -> list[Statement]:
        self._scope.blocks.append({})
        body = self._block()
        self._scope.blocks.pop()
        return body

    def _block(self) -> list[Statement]:
        body: list[Statement] = []
        while self._next.kind not in _BLOCK_ENDS:
            statement = self._statement()
            self._accept(";")
            if statement is not None:
                body.append(statement)
            if isinstance(statement, (Return, Break)):
                break
        return body

    def _statement(self) -> Statement | None:
        kind = self._next.kind
        if kind == ";":
            return None
        if kind in {"if", "while", "do", "for", "repeat", "local", "return", "break"}:
            self._take()
            statement: Statement = getattr(self, f"_{kind}")()
            return statement
        if kind == "function":
            raise ScriptSyntaxError(f"line {self._next.line}: functions are local here; Redis refuses global ones")
        return self._expression_statement()

    def _if(self) -> Statement:
        branches: list[tuple[Expression, list[Statement]]] = []
        otherwise: list[Statement] = []
        while True:
            condition = self._expression()
            self._expect("then")
            branches.append((condition, self._scoped_block()))
            if self._accept("elseif"):
                continue
            if self._accept("else"):
                otherwise = self._scoped_block()
            self._expect("end")
            return If(branches, otherwise)

    def _while(self) -> Statement:
        condition = self._expression()
        self._expect("do")
        body = self._scoped_block()
        self._expect("end")
        return While(condition, body)

    def _do(self) -> Statement:
        body = self._scoped_block()
        self._expect("end")
        return Do(body)

    def _repeat(self) -> Statement:
        self._scope.blocks.append({})
        body = self._block()
        self._expect("until")
        condition = self._expression()  # sees the locals of the body
        self._scope.blocks.pop()
        return Repeat(body, condition)

    def _for(self) -> Statement:
        names = [self._name()]
        if self._accept("="):
            start = self._expression()
            self._expect(",")
            stop = self._expression()
            step = self._expression() if self._accept(",") else None
            variables, body = self._loop_body(names)
            return NumericFor(variables[0], start, stop, step, body)
        while self._accept(","):
            names.append(self._name())
        self._expect("in")
        values = self._expressions()
        variables, body = self._loop_body(names)
        return GenericFor(variables, values, body)

    def _loop_body(self, names: list[bytes]) -> tuple[list[Variable], list[Statement]]:
        self._expect("do")
        self._scope.blocks.append({})
        variables = [self._scope.declare(name) for name in names]
        body = self._scoped_block()
        self._scope.blocks.pop()
        self._expect("end")
        return variables, body

    def _local(self) -> Statement:
        if self._accept("function"):
            variable = self._scope.declare(self._name())
            return LocalFunction(variable, self._function())
        names = [self._name()]
        while self._accept(","):
            names.append(self._name())
        values = self._expressions() if self._accept("=") else []
        return LocalAssignment([self._scope.declare(name) for name in names], values)

    def _return(self) -> Statement:
        ends = self._next.kind in _BLOCK_ENDS or self._next.kind == ";"
        return Return([] if ends else self._expressions())

    def _break(self) -> Statement:
        return Break()

    def _expression_statement(self) -> Statement:
        line = self._next.line
        first = self._suffixed()
        if isinstance(first, (Call, MethodCall)):
            return CallStatement(first)
        targets: list[Expression] = [first]
        while self._accept(","):
            targets.append(self._suffixed())
        self._expect("=")
        if not all(isinstance(target, (Local, Global, Index)) for target in targets):
            raise ScriptSyntaxError(f"line {line}: cannot assign to this")
        return Assignment(targets, self._expressions())

    # expressions

    def _expressions(self) -> list[Expression]:
        found = [self._expression()]
        while self._accept(","):
            found.append(self._expression())
        return found

    def _expression(self, limit: int = 0) -> Expression:
        if self._next.kind in {"not", "-", "#"}:
            left: Expression = Unary(self._take().kind, self._expression(_UNARY_BINDING))
        else:
            left = self._simple()
        while (binding := _BINDING.get(self._next.kind)) is not None and binding[0] > limit:
            operator = self._take().kind
            left = Binary(operator, left, self._expression(binding[1]))
        return left

    def _simple(self) -> Expression:
        token = self._next
        if token.kind in {"number", "string"}:
            return Constant(self._take().value)
        if token.kind in {"nil", "true", "false"}:
            self._take()
            return Constant({"nil": None, "true": True, "false": False}[token.kind])
        if token.kind == "...":
            self._take()
            if not self._scope.prototype.variadic:
                raise ScriptSyntaxError(f"line {token.line}: '...' outside a function that takes it")
            return Varargs()
        if token.kind == "{":
            return self._table()
        if token.kind == "function":
            self._take()
            return FunctionBody(self._function())
        return self._suffixed()

    def _suffixed(self) -> Expression:
        found = self._primary()
        while True:
            kind, line = self._next.kind, self._next.line
            if kind == ".":
                self._take()
                found = Index(found, Constant(self._name()))
            elif kind == "[":
                self._take()
                found = Index(found, self._expression())
                self._expect("]")
            elif kind == ":":
                self._take()
                found = MethodCall(found, self._name(), self._arguments(), line)
            elif kind in {"(", "string", "{"}:
                found = Call(found, self._arguments(), line)
            else:
                return found

    def _primary(self) -> Expression:
        if self._accept("("):
            inner = self._expression()
            self._expect(")")
            return Parenthesized(inner)
        name = self._name()
        variable = self._scope.resolve(name)
        return Global(name) if variable is None else Local(variable)

    def _arguments(self) -> list[Expression]:
        if self._next.kind == "string":
            return [Constant(self._take().value)]
        if self._next.kind == "{":
            return [self._table()]
        self._expect("(")
        if self._accept(")"):
            return []
        found = self._expressions()
        self._expect(")")
        return found

    def _table(self) -> Expression:
        self._expect("{")
        array: list[Expression] = []
        fields: list[tuple[Expression, Expression]] = []
        while not self._accept("}"):
            if self._accept("["):
                key = self._expression()
                self._expect("]")
                self._expect("=")
                fields.append((key, self._expression()))
            elif self._next.kind == "name" and self._tokens[self._at + 1].kind == "=":
                name = Constant(self._name())
                self._take()
                fields.append((name, self._expression()))
            else:
                array.append(self._expression())
            if not self._accept(",") and not self._accept(";"):
                self._expect("}")
                break
        return TableConstructor(array, fields)

    def _function(self) -> Prototype:
        scope = self._scope = _Scope(self._scope)
        self._expect("(")
        while not self._accept(")"):
            if self._accept("..."):
                scope.prototype.variadic = True
            else:
                scope.prototype.parameters.append(scope.declare(self._name()))
            if not self._accept(","):
                self._expect(")")
                break
        body = self._block()
        self._expect("end")
        assert scope.parent is not None
        self._scope = scope.parent
        return scope.finish(body)
