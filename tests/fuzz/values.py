"""Values of any wire type, hostile or plain, made from the types themselves: a new frame is fuzzed without a change.

What is made is what MessagePack carries (lists, maps, bytes, numbers), not our own classes: these could not hold most
of it. `make` makes one value, `mutate` changes one that was recorded, somewhere inside.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import inspect as t

from storagemirror.entry import is_path
from storagemirror.wire import content

LONG = 70_000

HOSTILE_PATHS: tuple[bytes, ...] = (
    b"..", b".", b"", b"/", b"../canary", b"../canary/secret", b"a/../../canary/secret", b"/etc/passwd", b"a//b", b"a/",
    b"a\0b", b"a/./b", b".storagemirror", b".storagemirror/pair.json", b".storagemirror/tmp/0", b"lost+found",
    b"lost+found/x", b"out", b"out/secret", b"out/new", b"file-out", b"d/out/secret", b"dangling/x", b"x" * 255,
    b"x" * 256, b"x" * LONG, b"/".join([b"deep"] * 600), b"e/" * 4_000 + b"e",
    b"/".join([b"deep"] * 13_000), b"/".join([b"y" * 255] * 255), b"a/" * 32_000 + b"a",
    b"\xff\xfe", b"\n", b"proc", b"self",
)  # fmt: skip
"""None of them may lead out of a volume that holds the links `out` and `d/out` (to the canary), `file-out`, and
`dangling`; some may not even be paths."""

PLAIN_PATHS: tuple[bytes, ...] = (
    b"a", b"a/b", b"a/b/c", b"d", b"d/e", b"f", b"f0", b"d/f1", b"a/f2", b"big", b"new", b"new/dir", b"new/dir/file",
    b"link", b"hard", b"fifo",
)  # fmt: skip

_LAWFUL_PATHS = tuple(path for path in HOSTILE_PATHS if path and is_path(path))
_PATHS = frozenset({"path", "paths", "leader", "directories", "scopes", "renames"})
_DIGESTS = frozenset({"digest", "attributes", "sums", "xattrs"})
_MODES: dict[type, tuple[int, ...]] = {
    content.File: (stat.S_IFREG,),
    content.Symlink: (stat.S_IFLNK,),
    content.Node: (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK),
    content.Touch: (stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO),
    content.Leave: (stat.S_IFDIR,),
}

_NUMBERS = (0, 1, 2, 3, 7, 8, 9, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 62), (1 << 63) - 1)
_BEYOND = (-1, -(1 << 31), -(1 << 63), 1 << 63, (1 << 64) - 1)
_TIMES = (0, 1, -1, 1_700_000_000_000_000_000, 1_700_000_000_123_456_789, -(1 << 63), (1 << 63) - 1)
_XATTRS = (
    b"user.a", b"user.", b"user", b"", b"user.\0", b"user." + b"n" * 300, b"system.posix_acl_access", b"trusted.x",
    b"system.posix_acl_default", b"security.capability", b"security.selinux", b"security.ima", b"system.data", b"\xff",
    b"trusted.overlay.opaque", b"trusted.storagemirror.aside",
)  # fmt: skip
_KINDS = (
    stat.S_IFREG,
    stat.S_IFDIR,
    stat.S_IFLNK,
    stat.S_IFIFO,
    stat.S_IFSOCK,
    stat.S_IFCHR,
    stat.S_IFBLK,
    0,
    0o170000,
)
_TEXTS = ("", "x", "pair-1", "data", "\0", "\x1b[31m", "é" * 50, "{}" * 100, "../../x", "Other")


class Values:
    """Makes them from a source of chance. `paths` are those that the recorded sessions are about; `wild` is how often
    (0 to 1) something is not what its type asks for."""

    def __init__(
        self, rnd: random.Random, paths: Sequence[bytes] = PLAIN_PATHS, wild: float = 0.02, lawful: float = 0.7
    ) -> None:
        """`lawful`: how often a field gets what the protocol's checks let pass, so that what comes behind them is
        reached."""
        self.rnd = rnd
        self.paths = paths
        self.wild = wild
        self.lawful = lawful

    def path(self) -> bytes:
        """Mostly one that is there."""
        rnd = self.rnd
        roll = rnd.random()
        if roll < 0.6:
            return rnd.choice(self.paths)
        if roll < 0.75:
            return b"/".join(
                rnd.choice((b"a", b"b", b"d", b"out", b"f", b"new", b"e")) for _ in range(rnd.randint(1, 5))
            )
        return rnd.choice(_LAWFUL_PATHS if rnd.random() < self.lawful else HOSTILE_PATHS)

    def bytes(self, field: str = "") -> bytes:
        """What a field of that name may mean: a path, a name, a digest; else any of these, or a content."""
        rnd = self.rnd
        if rnd.random() < self.lawful:
            if field == "name":
                return self.path().rpartition(b"/")[2][:255] or b"n"
            if field in _PATHS:
                return self.path()
            if field in _DIGESTS:
                return rnd.randbytes(16)
            if field == "content":
                return rnd.choice((b"a/f2", b"../canary", b"/etc/passwd", b"1:3", b"x" * 4095))
        roll = rnd.random()
        if roll < 0.55:
            path = self.path()
            return path.rpartition(b"/")[2] if rnd.random() < 0.4 else path
        if roll < 0.8:
            return rnd.randbytes(16)
        if roll < 0.95:
            return rnd.randbytes(rnd.choice((0, 1, 15, 17, 40, 300)))
        return rnd.choice(_XATTRS)

    def number(self, kind: t.IntType) -> int:
        """Within its range, often at the edge; beyond it now and then."""
        rnd = self.rnd
        if rnd.random() < self.wild:
            return rnd.choice(_BEYOND)
        low = kind.ge if kind.ge is not None else 0
        high = kind.le if kind.le is not None else (1 << 64) - 1
        if high == 0o177777:
            return rnd.choice(_KINDS) | rnd.choice((0o644, 0o755, 0o700, 0, 0o7777, 0o4755))
        pool = _TIMES if low is not None and low < 0 else _NUMBERS
        value = rnd.choice(pool) if rnd.random() < 0.8 else rnd.randrange(0, 1 << rnd.choice((4, 16, 40)))
        return int(min(max(value, low), high))

    def make(self, kind: t.Type, depth: int = 0, field: str = "") -> Any:
        """One value of `kind`, as MessagePack carries it."""
        rnd = self.rnd
        if rnd.random() < self.wild:
            return self.anything()
        match kind:
            case t.StructType():
                return self.struct(kind, depth)
            case t.UnionType():
                return self.make(rnd.choice(kind.types), depth, field)
            case t.ListType() | t.VarTupleType():
                return [self.make(kind.item_type, depth + 1, field) for _ in range(self._count(depth))]
            case t.TupleType():
                return [self.make(item, depth + 1, field) for item in kind.item_types]
            case t.DictType():
                return {rnd.choice(_XATTRS): rnd.randbytes(rnd.choice((0, 1, 20, 5000))) for _ in range(self._few())}
            case t.EnumType():
                return rnd.choice(list(kind.cls)).value
            case t.BytesType():
                return self.bytes(field)
            case t.StrType():
                return rnd.choice(_TEXTS)
            case t.IntType():
                return self.number(kind)
            case t.BoolType():
                return rnd.random() < 0.5
            case t.FloatType():
                return rnd.choice((0.0, 1.5, -1.0, float("inf"), float("nan")))
            case t.NoneType():
                return None
            case _:
                return self.anything()

    def struct(self, kind: t.StructType, depth: int = 0) -> list[Any]:
        """All fields, or the first of them as an older peer sends them, or one too many as a later one does."""
        rnd = self.rnd
        fields = kind.fields
        values = [self.make(field.type, depth + 1, field.name) for field in fields]
        if rnd.random() < self.lawful:
            self._fit(kind, values)
        required = sum(1 for field in fields if field.required)
        roll = rnd.random()
        if roll < 0.1:
            values = values[: rnd.randint(required, len(values))] if required < len(values) else values
        elif roll < 0.1 + self.wild:
            values = values[: rnd.randint(0, len(values))]
        elif roll < 0.15:
            values.append(self.anything())
        return [kind.tag, *values] if kind.tag is not None else values

    def _fit(self, kind: t.StructType, values: list[Any]) -> None:
        """The type bits that a record of a pack must have."""
        types = _MODES.get(kind.cls)
        for value in values:
            if types is not None and isinstance(value, list) and len(value) > 3 and isinstance(value[0], int):
                value[0] = self.rnd.choice(types) | value[0] & 0o7777

    def mutate(self, value: Any, kind: t.Type, depth: int = 0, field: str = "") -> Any:
        """`value` with something inside of it changed."""
        rnd = self.rnd
        if isinstance(kind, t.UnionType):
            kind = self._of(value, kind)
        if isinstance(kind, t.StructType) and isinstance(value, list) and value:
            first = 1 if kind.tag is not None else 0
            if len(value) > first and rnd.random() < 0.95:
                at = rnd.randrange(first, len(value))
                found = kind.fields[at - first] if at - first < len(kind.fields) else None
                inner, name = (found.type, found.name) if found is not None else (t.AnyType(), "")
                return [*value[:at], self.mutate(value[at], inner, depth + 1, name), *value[at + 1 :]]
            return self.make(kind, depth, field)
        if isinstance(kind, (t.ListType, t.VarTupleType)) and isinstance(value, list):
            return self._mutate_list(value, kind, depth, field)
        if isinstance(value, bytes) and rnd.random() < 0.3 and value:
            at = rnd.randrange(len(value))
            return value[:at] + rnd.randbytes(1) + value[at + 1 :]
        return self.make(kind, depth, field)

    def _mutate_list(self, value: list[Any], kind: t.ListType | t.VarTupleType, depth: int, field: str) -> list[Any]:
        rnd = self.rnd
        at = rnd.randrange(len(value)) if value else 0
        roll = rnd.random()
        if value and roll < 0.6:
            return [*value[:at], self.mutate(value[at], kind.item_type, depth + 1, field), *value[at + 1 :]]
        if value and roll < 0.7:
            return value[:at] + value[at + 1 :]
        if value and roll < 0.78:
            return value[:at] + [value[at]] * rnd.choice((2, 3, 50)) + value[at + 1 :]
        if roll < 0.84:
            return rnd.sample(value, len(value))
        return [*value[:at], self.make(kind.item_type, depth + 1, field), *value[at:]]

    @staticmethod
    def _of(value: Any, kind: t.UnionType) -> t.Type:
        """Which of the union's types `value` is of, as far as its tag says."""
        for one in kind.types:
            if isinstance(one, t.StructType) and isinstance(value, list) and value and one.tag == value[0]:
                return one
        plain = [one for one in kind.types if not isinstance(one, t.NoneType)]
        return plain[0] if plain else kind.types[0]

    def anything(self) -> Any:
        """Of no type in particular, nested now and then."""
        rnd = self.rnd
        made: Any = rnd.choice((None, True, 0, -1, 1 << 63, 1.5, "", "x" * 100, b"", b"..", [], {}, [[]], {"a": 1}))
        for _ in range(rnd.choice((0, 0, 0, 1, 5, 200))):
            made = [made]
        return made

    def _count(self, depth: int) -> int:
        return self.rnd.choice((0, 1, 1, 2, 3, 8) if depth else (0, 1, 1, 2, 3, 8, 40, 1_001))

    def _few(self) -> int:
        return self.rnd.choice((0, 0, 0, 0, 1, 2))


def encoded(value: Any) -> bytes:
    """As MessagePack."""
    return msgspec.msgpack.encode(value)
