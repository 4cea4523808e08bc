"""What is done to a valid file: small damages, each told by four numbers.

A damage is ``(kind, where, size, value)``; the kind is a name below, the numbers are from 0 to
65535 and mean whatever the kind makes of them, so that any four numbers are a damage.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence

TOKENS = (
    b"", b"nan", b"NaN", b"inf", b"-inf", b"1e308", b"1e400", b"-1", b"-0", b"0x10", b"1_000",
    b"1,5", b"NA", b"TRUE", b'"', b'""', b"'", b"\t", b",", b"\n", b"\r", b"\0", b"#", b"=1+1",
    b"9" * 400, b"TCGA", b"TCGA-05-4244-01A", b"TCGA-05-4244-11A", b"TCGA-05-", b"ACTB", b"1-Mar",
    b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", "Ж".encode(), "١٢".encode(), "\u2028".encode(),
    b"../../etc/passwd", b"/dev/zero", b"{}", b"[]", b"''' ", b"gene", b"\\u0000",
    b"[" * 3000, b"Hugo_Symbol",
)  # fmt: skip
INTEGERS = (0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1,
            2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp500")


def _at(data: bytes, where: int) -> int:
    return where * len(data) // 65536


def flip(data: bytes, where: int, size: int, value: int) -> bytes:
    out = bytearray(data)
    for step in range(1 + size % 4):
        at = _at(data, (where + step * 7919) % 65536)
        out[at : at + 1] = bytes([out[at] ^ (1 + value % 255)]) if out else b""
    return bytes(out)


def _integer(data: bytes, at: int, size: int, value: int) -> bytes:
    width = (1, 2, 4, 8)[size % 4]
    number = INTEGERS[value % len(INTEGERS)] % (1 << (8 * width))
    order = "little" if size % 8 < 4 else "big"
    return data[:at] + number.to_bytes(width, order) + data[at + width :]


def integer(data: bytes, where: int, size: int, value: int) -> bytes:
    return _integer(data, _at(data, where), size, value)


def header(data: bytes, where: int, size: int, value: int) -> bytes:
    return _integer(data, where % max(1, min(len(data), 512)), size, value)


def truncate(data: bytes, where: int, _size: int, _value: int) -> bytes:
    return data[: _at(data, where)]


def delete(data: bytes, where: int, size: int, _value: int) -> bytes:
    at = _at(data, where)
    return data[:at] + data[at + 1 + size % 300 :]


def repeat(data: bytes, where: int, size: int, value: int) -> bytes:
    at = _at(data, where)
    return data[:at] + data[at : at + 1 + size % 300] * (1 + value % 40) + data[at:]


def insert(data: bytes, where: int, size: int, value: int) -> bytes:
    at = _at(data, where)
    return data[:at] + bytes([value % 256]) * (1 + size % 1000) + data[at:]


def _lines(data: bytes) -> list[bytes]:
    return data.split(b"\n")


def _separator(data: bytes) -> bytes:
    return b"\t" if b"\t" in data[:5000] else b","


def cell(data: bytes, where: int, size: int, value: int) -> bytes:
    lines, separator = _lines(data), _separator(data)
    row = where % len(lines)
    cells = lines[row].split(separator)
    cells[size % len(cells)] = TOKENS[value % len(TOKENS)]
    lines[row] = separator.join(cells)
    return b"\n".join(lines)


def column(data: bytes, where: int, size: int, value: int) -> bytes:
    """A column twice, gone, or in another's place."""
    separator = _separator(data)
    out = []
    for line in _lines(data):
        cells = line.split(separator)
        first, second = where % len(cells), size % len(cells)
        if value % 3 == 0:
            cells.insert(second, cells[first])
        elif value % 3 == 1:
            del cells[first]
        else:
            cells[first], cells[second] = cells[second], cells[first]
        out.append(separator.join(cells))
    return b"\n".join(out)


def line(data: bytes, where: int, size: int, value: int) -> bytes:
    """A line twice, gone, first, or very long."""
    lines = _lines(data)
    row, other = where % len(lines), size % len(lines)
    if value % 4 == 0:
        lines.insert(other, lines[row])
    elif value % 4 == 1:
        del lines[row]
    elif value % 4 == 2:
        lines.insert(0, lines.pop(row))
    else:
        lines[row] += b"A" * (1 + size * 4)
    return b"\n".join(lines)


def encoding(data: bytes, _where: int, _size: int, value: int) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(ENCODINGS[value % len(ENCODINGS)], "replace")


def newlines(data: bytes, where: int, _size: int, value: int) -> bytes:
    if value % 3 == 2:
        at = _at(data, where)
        return data[:at] + data[at:].replace(b"\n", b"\r\n")
    return data.replace(b"\n", (b"\r\n", b"\r")[value % 3])


def packed(data: bytes, where: int, _size: int, value: int) -> bytes:
    out = gzip.compress(data, 1, mtime=0)
    if value % 3 == 1:
        return out[: _at(out, where)]
    return gzip.compress(out, 1, mtime=0) if value % 3 == 2 else out


Damage = Callable[[bytes, int, int, int], bytes]
BINARY: dict[str, Damage] = {
    damage.__name__: damage
    for damage in (flip, integer, header, truncate, delete, repeat, insert)
}  # fmt: skip
TEXT: dict[str, Damage] = {
    damage.__name__: damage for damage in (cell, column, line, encoding, newlines, packed)
}
KINDS = BINARY | TEXT


def damaged(data: bytes, other: bytes, damages: Sequence[tuple[str, int, int, int]]) -> bytes:
    """The file after its damages, in order; ``splice`` takes the end of another file."""
    for kind, where, size, value in damages:
        if kind == "splice":
            data = data[: _at(data, where)] + other[_at(other, size) :]
        else:
            data = KINDS[kind](data, where, size, value)
    return data
