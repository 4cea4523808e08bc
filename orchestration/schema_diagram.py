"""The entity diagram of the schema: tables as boxes, references as lines, as one SVG.

Drawn in layers, from the tables that refer to nobody on the left to those that refer to them
(Sugiyama, Tagawa & Toda, IEEE Trans. SMC 11:109-125, 1981). A reference that skips layers goes
through a gap in each of them, and all references to one table share that gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from featurestore.catalogue import Relation

_CHAR, _ROW, _HEAD, _PAD = 6.7, 17, 26, 10
_GAP_X, _GAP_Y, _LINE = 84, 22, 10
_SWEEPS = 24


@dataclass
class _Node:
    """A box, or a gap that lines to ``table`` go through."""

    table: str
    layer: int
    height: float
    is_gap: bool = False
    y: float = 0.0
    left: list[_Node] = field(default_factory=list, repr=False)
    right: list[_Node] = field(default_factory=list, repr=False)

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def diagram(tables: Sequence[Relation]) -> str:
    """Draw tables with their key columns and references.

    Parameters
    ----------
    tables : sequence of Relation
        References to tables that are not among them are not drawn.

    Returns
    -------
    str
        An ``<svg>`` element; each box links to ``#NAME``.
    """
    by_name = {table.name: table for table in tables}
    layers = _layers(by_name)
    nodes = {
        name: _Node(name, layer, _HEAD + _ROW * max(1, len(_rows(by_name[name]))) + 6)
        for name, layer in layers.items()
    }
    columns = _with_gaps(by_name, nodes)
    _arrange(columns)
    width = [
        max([90.0, *(_width(by_name[node.table]) for node in column if not node.is_gap)])
        for column in columns
    ]
    x = [sum(width[:n]) + n * _GAP_X + _PAD for n in range(len(columns) + 1)]
    bottom = max((node.y + node.height for column in columns for node in column), default=0)
    total = x[-1] - _GAP_X + _PAD if columns else 0
    lines = [
        line for column in columns for node in column for line in _lines(node, x, width, by_name)
    ]
    boxes = [
        _box(by_name[node.table], node, x[node.layer], width[node.layer])
        for column in columns
        for node in column
        if not node.is_gap
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Entity diagram" '
        f'width="{total:.0f}" height="{bottom + _PAD:.0f}" '
        f'viewBox="0 0 {total:.0f} {bottom + _PAD:.0f}">' + "".join([*lines, *boxes]) + "</svg>"
    )


def _referred(table: Relation, known: dict[str, Relation]) -> list[str]:
    others = {reference.referred for reference in table.references}
    return sorted(name for name in others if name in known and name != table.name)


def _layers(tables: dict[str, Relation]) -> dict[str, int]:
    """One more than the furthest table referred to; a circle of references is cut somewhere."""
    layers: dict[str, int] = {}

    def layer(name: str, above: frozenset[str]) -> int:
        if name not in layers:
            below = [
                layer(other, above | {name})
                for other in _referred(tables[name], tables)
                if other not in above
            ]
            layers[name] = max(below, default=-1) + 1
        return layers[name]

    for name in tables:
        layer(name, frozenset())
    return layers


def _with_gaps(tables: dict[str, Relation], nodes: dict[str, _Node]) -> list[list[_Node]]:
    columns: list[list[_Node]] = [
        [] for _ in range(max((n.layer for n in nodes.values()), default=-1) + 1)
    ]
    for node in nodes.values():
        columns[node.layer].append(node)
    gaps: dict[tuple[str, int], _Node] = {}
    for name, table in tables.items():
        for other in _referred(table, tables):
            right, target = nodes[name], nodes[other]
            # From the referring table leftwards, through the gaps that others may have made.
            for between in range(right.layer - 1, target.layer, -1):
                key = (other, between)
                if key not in gaps:
                    gaps[key] = _Node(other, between, _LINE, is_gap=True)
                    columns[between].append(gaps[key])
                _join(gaps[key], right)
                right = gaps[key]
            if target.layer < right.layer:
                _join(target, right)
    return columns


def _join(left: _Node, right: _Node) -> None:
    if left not in right.left:
        right.left.append(left)
        left.right.append(right)


def _arrange(columns: list[list[_Node]]) -> None:
    """Order each layer by where its neighbours stand, back and forth, and give it room."""
    for column in columns:
        _stack(column, [0.0] * len(column))
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for column in columns if forward else reversed(columns):
            wanted = []
            for node in column:
                near = node.left if forward else node.right
                near = near or node.left or node.right
                middle = sum(n.middle for n in near) / len(near) if near else node.middle
                wanted.append(middle - node.height / 2)
            order = sorted(range(len(column)), key=lambda n: (wanted[n], column[n].table))
            column[:] = [column[n] for n in order]
            _stack(column, [wanted[n] for n in order])
    top = min((node.y for column in columns for node in column), default=0) - _PAD
    for column in columns:
        for node in column:
            node.y -= top


def _stack(column: list[_Node], wanted: list[float]) -> None:
    """Put nodes, in their order, as near to where they should be as they fit.

    Neighbours that would overlap move as one block to the mean of what they want.
    """
    blocks: list[tuple[float, float, int]] = []  # start, height, number of nodes
    offset_of: list[float] = []
    for node, start in zip(column, wanted, strict=True):
        height = node.height + (_GAP_Y / 2 if node.is_gap else _GAP_Y)
        block = (start, height, 1)
        while blocks and blocks[-1][0] + blocks[-1][1] > block[0]:
            before, tall, n = blocks.pop()
            mean = (before * n + (block[0] - tall) * block[2]) / (n + block[2])
            block = (mean, tall + block[1], n + block[2])
        blocks.append(block)
        offset_of.append(height)
    place = 0
    for start, _, n in blocks:
        y = start
        for node, height in zip(
            column[place : place + n], offset_of[place : place + n], strict=True
        ):
            node.y = y
            y += height
        place += n


def _rows(table: Relation) -> list[tuple[str, str]]:
    """Key columns: name, and whether it is the key or refers to another table."""
    return [
        (column.name, "key" if column.is_key else "reference")
        for column in table.columns
        if column.is_key or column.refers_to
    ]


def _width(table: Relation) -> float:
    longest = max([len(table.name) + 2, *(len(name) + 3 for name, _ in _rows(table))])
    return longest * _CHAR + 2 * _PAD


def _lines(
    node: _Node, x: list[float], width: list[float], tables: dict[str, Relation]
) -> list[str]:
    """Lines from a node to what it refers to on its left, and through itself if it is a gap."""
    found = []
    for left in node.left:
        start, end = x[node.layer], x[left.layer] + width[left.layer]
        if left.is_gap or left.table in tables:
            to = left.middle if left.is_gap else left.y + _HEAD / 2
            begin = node.middle if node.is_gap else _leaves(node, left.table, tables)
            bend = (start - end) / 2
            found.append(
                f'<path class="line to-{escape(left.table)}" d="M{start:.1f} {begin:.1f}'
                f" C{start - bend:.1f} {begin:.1f} {end + bend:.1f} {to:.1f} {end:.1f} {to:.1f}"
                f'"><title>{escape(left.table)}</title></path>'
            )
            if not left.is_gap:
                found.append(f'<circle class="end" cx="{end:.1f}" cy="{to:.1f}" r="3"/>')
    if node.is_gap:
        y = node.middle
        found.append(
            f'<path class="line to-{escape(node.table)}" d="M{x[node.layer]:.1f} {y:.1f}'
            f' H{x[node.layer] + width[node.layer]:.1f}"><title>{escape(node.table)}</title></path>'
        )
    return found


def _leaves(node: _Node, other: str, tables: dict[str, Relation]) -> float:
    """Height at which a reference leaves its table: at the first column that makes it."""
    table = tables[node.table]
    columns = next(r.columns for r in table.references if r.referred == other)
    names = [name for name, _ in _rows(table)]
    return node.y + _HEAD + _ROW * (names.index(columns[0]) + 0.5) + 2


def _box(table: Relation, node: _Node, x: float, width: float) -> str:
    rows = "".join(
        f'<text class="{kind}" x="{x + _PAD:.1f}" y="{node.y + _HEAD + _ROW * n + 14:.1f}">'
        f"{'●' if kind == 'key' else '○'} {escape(name)}</text>"
        for n, (name, kind) in enumerate(_rows(table))
    )
    return (
        f'<a href="#{escape(table.name)}" class="box"><title>{escape(table.comment)}</title>'
        f'<rect class="body" x="{x:.1f}" y="{node.y:.1f}" width="{width:.1f}" '
        f'height="{node.height:.1f}" rx="5"/>'
        f'<path class="head" d="M{x:.1f} {node.y + _HEAD:.1f} h{width:.1f}"/>'
        f'<text class="name" x="{x + _PAD:.1f}" y="{node.y + 18:.1f}">{escape(table.name)}</text>'
        f"{rows}</a>"
    )
