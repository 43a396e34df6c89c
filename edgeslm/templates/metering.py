"""A template's syntax tree, changed so that the environment sees what jinja2 would compile to bare Python.

Loops, macros and blocks begin with a charge for what their bodies hold; ``~``, comparisons, slices, keys of
dictionaries and ``*arguments`` become calls of the environment's ``joined``, ``compared``, ``sliced``, ``key`` and
``spread``.
"""

from __future__ import annotations

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from edgeslm.templates.budget import ELEMENT, OverBudget

MAX_DEPTH = 100  # of nested syntax: compilers recurse
MAX_NODES = 6000  # what is compiled takes some 0.1 ms and 10 kB each; the largest templates have a fifth of them
TICK = 4  # units of a node, each time it may run


def metered(template: nodes.Template) -> nodes.Template:
    """The same template, counting.

    Raises:
        OverBudget: it is too long or nested too deeply.
    """
    changed: nodes.Template = _Metering(_weights(template)).visit(template)
    return changed


def _weights(template: nodes.Template) -> dict[int, int]:
    """How many nodes each node holds, by its identity."""
    order: list[tuple[nodes.Node, int, nodes.Node | None]] = [(template, 0, None)]
    for node, depth, _ in order:  # grows as it goes
        if depth > MAX_DEPTH:
            raise OverBudget(f"more than {MAX_DEPTH} levels of syntax")
        order += [(child, depth + 1, node) for child in node.iter_child_nodes()]
        if len(order) > MAX_NODES:
            raise OverBudget(f"more than {MAX_NODES} pieces of syntax")
    weights = dict.fromkeys((id(node) for node, _, _ in order), 1)
    for node, _, parent in reversed(order):
        if parent is not None:
            weights[id(parent)] += weights[id(node)]
    return weights


class _Metering(NodeTransformer):
    def __init__(self, weights: dict[int, int]) -> None:
        self._weights = weights

    def visit_For(self, node: nodes.For) -> nodes.For:
        tick = self._tick(node)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(tick))
        if node.test is not None:
            node.test = nodes.And(tick, node.test)
        return node

    def _repeated(self, node: nodes.Macro | nodes.CallBlock | nodes.Block) -> nodes.Node:
        tick = self._tick(node)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(tick))
        return node

    visit_Macro = visit_CallBlock = visit_Block = _repeated

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:
        self.generic_visit(node)
        return _call("joined", node, node.nodes)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Call:
        self.generic_visit(node)
        chain = [part for operand in node.ops for part in (nodes.Const(operand.op), operand.expr)]
        return _call("compared", node, [node.expr, *chain])

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _call("sliced", node, [node.node])
        return node

    def _called(self, node: nodes.Call | nodes.Filter | nodes.Test) -> nodes.Node:
        self.generic_visit(node)
        if node.dyn_args is not None:
            node.dyn_args = _call("spread", node, [node.dyn_args])
        return node

    visit_Call = visit_Filter = visit_Test = _called

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        self.generic_visit(node)
        node.key = _call("key", node, [node.key])
        return node

    def _tick(self, node: nodes.Node) -> nodes.Call:
        """True, at the price of the node's whole body."""
        return _call("tick", node, [nodes.Const(TICK * (ELEMENT + self._weights[id(node)]))])


def _call(method: str, at: nodes.Node, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(method), arguments, [], None, None, lineno=at.lineno)
