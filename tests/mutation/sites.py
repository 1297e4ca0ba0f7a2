"""Where the source can be changed: the operators, and the sites of each in a file."""

import ast
from dataclasses import dataclass
from pathlib import Path

from areas import EXEMPT

ROOT = Path(__file__).resolve().parents[2]
SIGNS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*")}
COMPARISONS = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">")}
OPPOSITE = {"min": "max", "amin": "amax", "argmin": "argmax", "minimum": "maximum", "all": "any"}
OPPOSITE |= {new: old for old, new in OPPOSITE.items()}
AXES = {"dim", "axis"}
FLAGS = {"descending", "stable", "largest", "centred", "complete", "upper", "strict_upper"}
# Calls whose two arguments commute, or whose swap is a mistake of types and not of meaning.
COMMUTE = {*OPPOSITE, "transpose", "swapaxes", "isinstance", "getattr", "hasattr", "setattr", "partial", "equal"}


@dataclass(frozen=True)
class Mutant:
    """One change of one line: bytes `start` to `end` of a file become `new`."""

    area: str
    path: str
    line: int
    operator: str
    before: str
    after: str
    start: int
    end: int
    new: str

    @property
    def key(self) -> str:
        return f"{self.path}: {self.before} -> {self.after}"


class Sites(ast.NodeVisitor):
    """All mutants of one file."""

    def __init__(self, area: str, path: Path) -> None:
        self.area, self.path, self.text = area, str(path.relative_to(ROOT)), path.read_bytes()
        self.starts, self.found = [0], list[Mutant]()
        for line in self.text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.visit(ast.parse(self.text))

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def source(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.text[start:end].decode()

    def add(self, operator: str, start: int, end: int, new: str) -> None:
        line = max(i for i, begin in enumerate(self.starts) if begin <= start)
        stop = max(end, self.text.find(b"\n", end))
        old = self.text[self.starts[line] : stop].decode()
        changed = (self.text[self.starts[line] : start] + new.encode() + self.text[end:stop]).decode()
        shown = [" ".join(text.split()) for text in (old, changed)]
        self.found.append(Mutant(self.area, self.path, line + 1, operator, *shown, start, end, new))

    def between(self, operator: str, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Replace the operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.text[start:end].decode()
        if gap.count(old) == 1:
            self.add(operator, start, end, gap.replace(old, new))

    def visit(self, node: ast.AST) -> None:
        name = getattr(node, "name", None) or (getattr(node, "targets", None) or [None])[0]
        name = getattr(name, "id", name)
        if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr)) or name in EXEMPT:
            return
        if isinstance(node, ast.Module | ast.ClassDef):  # constants and fields are choices
            children = [child for child in node.body if not isinstance(child, ast.Assign | ast.AnnAssign)]
        elif isinstance(node, ast.FunctionDef):  # no defaults, annotations, decorators
            children = node.body
        else:
            getattr(self, f"visit_{type(node).__name__}", lambda _: None)(node)
            children = list(ast.iter_child_nodes(node))
            if isinstance(node, ast.AnnAssign):
                children.remove(node.annotation)
            if isinstance(node, ast.keyword) and node.arg in AXES:
                children = []
        for child in children:
            self.visit(child)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        sequences = ast.JoinedStr | ast.List | ast.Tuple
        numbers = not any(
            isinstance(c, sequences) or type(getattr(c, "value", 0)) is str for c in (node.left, node.right)
        )
        if type(node.op) in SIGNS and numbers:
            self.between("sign", node.left, node.right, *SIGNS[type(node.op)])
        if isinstance(node.op, ast.Sub) and "mean" in self.source(node.right):
            self.add("dropped centring", *self.span(node), self.source(node.left))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.op, ast.Add | ast.Sub) and not isinstance(node.value, ast.List):
            self.between("sign", node.target, node.value, *("+=", "-=")[:: 1 if isinstance(node.op, ast.Add) else -1])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self.add("sign", *self.span(node), self.source(node.operand))

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
            self.between("comparison", node.left, node.comparators[0], *COMPARISONS[type(node.ops[0])])

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) is int:
            self.add("off by one", *self.span(node), str(node.value + 1))

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if isinstance(bound, ast.Name | ast.Attribute):
                self.add("off by one", *self.span(bound), f"{self.source(bound)} + 1")

    def visit_keyword(self, node: ast.keyword) -> None:
        value = node.value
        if node.arg in AXES and self.source(value).lstrip("-").isdigit():
            self.add("axis", *self.span(value), "1" if self.source(value) == "0" else "0")
        if node.arg in FLAGS and isinstance(value, ast.Constant) and isinstance(value.value, bool):
            self.add("flag", *self.span(value), str(not value.value))
        if node.arg in ("min", "max"):
            start = self.span(node)[0]
            self.add("min and max", start, start + 3, OPPOSITE[node.arg])

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        if name.rstrip("_") in OPPOSITE:
            end = self.span(function)[1]
            self.add("min and max", end - len(name), end, name.replace(name.rstrip("_"), OPPOSITE[name.rstrip("_")]))
        if len(node.args) == 2 and name not in COMMUTE and not any(isinstance(a, ast.Starred) for a in node.args):
            first, second = node.args
            if not any(isinstance(a, ast.Constant | ast.List | ast.Tuple) for a in node.args):
                between = self.text[self.span(first)[1] : self.span(second)[0]].decode()
                whole = self.span(first)[0], self.span(second)[1]
                self.add("swapped arguments", *whole, self.source(second) + between + self.source(first))

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.add("dropped statement", *self.span(node), "pass")
