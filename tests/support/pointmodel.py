"""A target of points in memory, by the words of `storagemirror.point` alone; and a volume read whole, to compare with.

The model knows nothing of the product's target: it is what a point *means*. What it holds after a point must be what
the source held while it was frozen, byte for byte.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Any

from storagemirror.entry import Entry, View
from storagemirror.errors import Disconnected
from storagemirror.fs.scan import ignore
from storagemirror.point import MIRROR, Name, Names, Object, ObjectId, PointDigest
from storagemirror.sync.pointmaker.turn import Moment
from storagemirror.wire import messages as m


@dataclass(eq=False)
class Node:
    """One object."""

    mode: int
    facts: tuple[Any, ...] = ()
    """Owner, group, modification time, extended attributes."""
    data: bytearray = field(default_factory=bytearray)
    content: bytes = b""
    names: dict[bytes, Node] = field(default_factory=dict)


@dataclass
class Told:
    """What a point says of one object."""

    node: Node
    moves: bool
    was: bytes | None
    names: dict[bytes, Name] | None = None


class Point:
    """A `Teller`."""

    def __init__(self, target: Model, number: int, before: bytes) -> None:
        assert before == target.digest
        self._target = target
        self._number = number
        self._before = before
        self._objects: dict[ObjectId, Told] = {}
        self._last: Told | None = None
        self._partial: list[Name] = []
        self._records = PointDigest(before)
        self.content_bytes = 0

    def object(self, told: Object) -> None:
        known = self._objects.get(told.id)
        if known is None:
            if told.was is None:
                node = Node(told.attributes.mode)
            else:
                found = self._target.at(told.was)
                assert found is not None, f"{told.was!r} is not at the base"
                node = found
            known = self._objects[told.id] = Told(node, told.moves, told.was)
        assert known.was == told.was, "it was there at one base, not at two"
        node = known.node
        assert stat.S_IFMT(node.mode) == stat.S_IFMT(told.attributes.mode)
        known.moves = told.moves
        if stat.S_ISDIR(node.mode) and told.was is None and known.names is None:
            known.names = {}
        attributes = told.attributes
        self._target.pending.append((node, attributes, told.size, told.content))
        self._last = known
        if stat.S_ISREG(node.mode):
            self._target.staged(node)

    def content(self, offset: int, content: memoryview) -> None:
        assert self._last is not None
        data = self._target.staged(self._last.node)
        if len(data) < offset + len(content):
            data.extend(bytes(offset + len(content) - len(data)))
        data[offset : offset + len(content)] = content
        self.content_bytes += len(content)
        self._target.content_bytes += len(content)

    def zeros(self, offset: int, length: int) -> None:
        assert self._last is not None
        data = self._target.staged(self._last.node)
        if len(data) < offset + length:
            data.extend(bytes(offset + length - len(data)))
        data[offset : offset + length] = bytes(length)

    def names(self, told: Names) -> None:
        assert self._last is not None
        assert stat.S_ISDIR(self._last.node.mode)
        self._partial += told.names
        if told.last:
            assert self._partial == sorted(self._partial, key=lambda name: name.name)
            self._last.names = {name.name: name for name in self._partial}
            self._partial = []

    def end(self, at_ns: int, *, changed_ns: int = 0, entries: int = 0, moment: Moment | None = None) -> bytes:
        if self._target.cut:
            self._target.cut = False
            raise Disconnected("cut")
        if self._target.lose:
            self._target.lose = False
            return b"lost".ljust(16)
        if self._target.refuse is not None:
            self._target.said.append(m.PointRefused(self._number, self._target.refuse, "no"))
            self._target.refuse = None
            return b"refused".ljust(16)
        self._target.base = self._target.digest
        self._target.digest = self._number.to_bytes(16, "little")
        self._target.said.append(m.PointDurable(self._number, self._target.digest))
        if self._target.holds and moment is not None:
            self._target.held, self._target.objects = True, self._objects
        else:
            self._target.apply(self._objects)
        self._target.at_ns.append(at_ns)
        return self._target.digest

    def drop(self) -> None:
        self._target.forget()


@dataclass
class Model:
    """A `Line`, and all of the target behind it."""

    root: Node
    digest: bytes = MIRROR
    view: View = field(default_factory=View)
    pending: list[tuple[Node, Any, int, bytes]] = field(default_factory=list)
    content: dict[Node, bytearray] = field(default_factory=dict)
    said: list[Any] = field(default_factory=list)
    at_ns: list[int] = field(default_factory=list)
    content_bytes: int = 0
    refuse: m.FailureReason | None = None
    """What the next point is refused for."""
    cut: bool = False
    """The connection breaks just before the end of the next point, and the source notices."""
    lose: bool = False
    """The connection breaks before the next point has come whole."""
    holds: bool = False
    """Whether it holds points of a group back."""
    held: bool = False
    base: bytes = MIRROR
    objects: dict[ObjectId, Told] = field(default_factory=dict)
    released: list[tuple[int, bool]] = field(default_factory=list)
    """What was said of points that it holds back: number, and whether to drop it."""
    deaf: bool = False
    """The next of these words is lost."""

    @property
    def point(self) -> tuple[int, bytes]:
        return len(self.at_ns), self.digest

    def report(self, kind: Any, path: bytes) -> None:
        ignore(kind, path)

    def begin(self, number: int, before: bytes) -> Point:
        assert not self.held, "the next point builds on the one that is held"
        self.forget()
        return Point(self, number, before)

    def release(self, number: int, *, drop: bool = False) -> None:
        self.released.append((number, drop))
        if self.deaf or not self.held or self.digest != number.to_bytes(16, "little"):
            self.deaf = False
            return
        self.held = False
        if drop:
            self.forget()
            self.digest = self.base
        else:
            self.apply(self.objects)

    def answers(self, seconds: float) -> list[Any]:
        said, self.said = self.said, []
        return said

    def look(self, paths: list[bytes]) -> list[Entry | None]:
        return [self._entry(path) for path in paths]

    def _entry(self, path: bytes) -> Entry | None:
        node = self.at(path)
        if node is None:
            return None
        name = path.rpartition(b"/")[2]
        mtime = node.facts[2] if node.facts else 0
        return Entry(name, node.mode, size=len(node.data), mtime_ns=mtime, content=node.content)

    def at(self, path: bytes) -> Node | None:
        node: Node | None = self.root
        for name in path.split(b"/") if path else []:
            node = node.names.get(name) if node is not None else None
        return node

    def staged(self, node: Node) -> bytearray:
        if node not in self.content:
            self.content[node] = bytearray(node.data)
        return self.content[node]

    def forget(self) -> None:
        self.pending.clear()
        self.content.clear()

    def apply(self, objects: dict[ObjectId, Told]) -> None:
        assert len({told.node for told in objects.values()}) == len(objects), "two objects are one at the base"
        for told in objects.values():
            if told.names is None:
                continue
            names: dict[bytes, Node] = {}
            for name in told.names.values():
                if name.kept:
                    names[name.name] = told.node.names[name.name]
                    other = objects.get(name.id)
                    assert other is None or other.node is names[name.name], "a kept name is the same object"
                else:
                    other = objects[name.id]
                    assert other.was is None or other.moves, "a name that is not kept is new, or moves"
                    names[name.name] = other.node
            told.node.facts = (*told.node.facts, names)  # applied at last: all is looked up in the base
        for told in objects.values():
            if told.names is not None:
                told.node.names = told.node.facts[-1]
        for node, attributes, _, content in self.pending:
            node.mode = attributes.mode
            node.facts = (attributes.uid, attributes.gid, attributes.mtime_ns, dict(attributes.xattrs))
            node.content = content
            if stat.S_ISREG(node.mode):
                node.data = self.content[node]
        for node, _, size, _ in {id(told[0]): told for told in self.pending}.values():
            if stat.S_ISREG(node.mode):  # the last size counts
                del node.data[size:]
                node.data.extend(bytes(size - len(node.data)))
        self.forget()


def read_tree(root: str, leave_out: frozenset[bytes] = frozenset({b"lost+found", b".storagemirror"})) -> Node:
    """A volume as it is now, whole."""
    seen: dict[int, Node] = {}

    def read(path: bytes) -> Node:
        found = os.lstat(path)
        if found.st_ino in seen and not stat.S_ISDIR(found.st_mode):
            return seen[found.st_ino]
        node = Node(found.st_mode)
        seen[found.st_ino] = node
        values = {
            os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        node.facts = (found.st_uid, found.st_gid, found.st_mtime_ns, values)
        if stat.S_ISREG(found.st_mode):
            with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NOATIME)) as file:
                node.data = bytearray(file.read())
        elif stat.S_ISLNK(found.st_mode):
            node.content = os.readlink(path)
        elif stat.S_ISDIR(found.st_mode):
            for name in os.listdir(path):
                if path != os.fsencode(root) or name not in leave_out:
                    try:
                        node.names[name] = read(path + b"/" + name)
                    except FileNotFoundError:
                        continue
        return node

    return read(os.fsencode(root))


def differences(truth: Node, model: Node) -> list[str]:
    """Paths at which the two are not the same; hard links must be the same sets."""
    found: list[str] = []
    pairs: dict[int, Node] = {}

    def compare(a: Node, b: Node, path: str) -> None:
        if pairs.setdefault(id(a), b) is not b:
            found.append(f"{path}: another hard link")
        if (a.mode, a.facts, a.content) != (b.mode, b.facts, b.content):
            found.append(f"{path}: {a.mode:o} {a.facts} {a.content!r} is {b.mode:o} {b.facts} {b.content!r}")
        if a.data != b.data:
            at = next((i for i, (x, y) in enumerate(zip(a.data, b.data, strict=False)) if x != y), -1)
            found.append(f"{path}: content differs at {at}, sizes {len(a.data)} {len(b.data)}")
        for name in a.names.keys() ^ b.names.keys():
            found.append(f"{path}/{name!r}: only {'there' if name in a.names else 'on the target'}")
        for name in a.names.keys() & b.names.keys():
            compare(a.names[name], b.names[name], f"{path}/{os.fsdecode(name)}")

    compare(truth, model, "")
    return found
