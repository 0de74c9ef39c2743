"""A model of a source that makes points: a real tree that is changed at random, and what it tells of the change.

The tree on disk is the truth. What is told is computed from it by looking (inode, and when it was made), as a source
would, never from what was done: so whatever is done to the tree needs no thought here.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.entry import Attributes, View, join
from storagemirror.fs.journal.incoming import Incoming
from storagemirror.fs.journal.journal import Journal
from storagemirror.fs.journal.segments import Commit
from storagemirror.fs.scan import ignore, read_attributes
from storagemirror.fs.syscalls import birth_and_mount
from storagemirror.fs.xattrs import names_at, path_of, values_at
from storagemirror.point import End, Name, Names, Object, ObjectId, PointDigest, RecordKind, Zeros, encode
from tests.support.trees import differences

BLOCK = 4096
_RSYNC = ("--delete", "--exclude=/.storagemirror", "--exclude=/lost+found")
OURS = (b".storagemirror", b"lost+found")


@dataclass
class Look:
    """A tree, as it is."""

    ids: dict[bytes, ObjectId] = field(default_factory=dict)
    paths: dict[ObjectId, list[bytes]] = field(default_factory=dict)
    attributes: dict[ObjectId, Attributes] = field(default_factory=dict)
    size: dict[ObjectId, int] = field(default_factory=dict)
    content: dict[ObjectId, bytes] = field(default_factory=dict)
    """Of files all of it; of links where they lead; of devices their numbers."""
    names: dict[ObjectId, dict[bytes, ObjectId]] = field(default_factory=dict)


def look(root: Path | str) -> Look:
    """At everything."""
    seen = Look()
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    _see(seen, top, b"", top)
    os.close(top)
    return seen


def _see(seen: Look, fd: int, path: bytes, top: int) -> None:
    own = _id(fd)
    seen.ids[path] = own
    seen.paths[own] = [path]
    seen.attributes[own] = read_attributes(fd, View(), ignore, path)
    seen.names[own] = {}
    for name in sorted(os.listdir(b"/proc/self/fd/%d" % fd)):
        if not path and name in OURS:
            continue
        inner = join(path, name)
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            _see(seen, deeper, inner, top)
            os.close(deeper)
            seen.names[own][name] = seen.ids[inner]
            continue
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
        id_ = _id(handle)
        os.close(handle)
        seen.names[own][name] = seen.ids[inner] = id_
        seen.paths.setdefault(id_, []).append(inner)
        place = path_of(fd, name)
        values = values_at(place, names_at(place), View(), lambda kind: None)
        seen.attributes[id_] = Attributes(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, values)
        seen.size[id_] = found.st_size if stat.S_ISREG(found.st_mode) else 0
        if stat.S_ISREG(found.st_mode):
            with open(place, "rb") as file:
                seen.content[id_] = file.read()
        elif stat.S_ISLNK(found.st_mode):
            seen.content[id_] = os.readlink(name, dir_fd=fd)
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            seen.content[id_] = b"%d:%d" % (os.major(found.st_rdev), os.minor(found.st_rdev))


def _id(fd: int) -> ObjectId:
    born = birth_and_mount(fd)[0] or 0
    return ObjectId(os.fstat(fd).st_ino, born)


Told = tuple[RecordKind, bytes, object]


def difference(before: Look | None, now: Look, rnd: random.Random | None = None) -> list[Told]:
    """The records of a point, in a random order of objects. `before` None: everything is new but the root."""
    was = before if before is not None else Look()
    groups: list[list[Told]] = []
    renamed = {
        id_
        for own, names in now.names.items()
        for name, id_ in names.items()
        if not (own in was.names and was.names[own].get(name) == id_)
    }
    for id_, attributes in now.attributes.items():
        known = was.paths.get(id_)
        if before is None and now.paths[id_] == [b""]:
            known = [b""]
        moves = known is not None and id_ in renamed and known != [b""]
        names_changed = id_ in now.names and now.names[id_] != was.names.get(id_)
        content_changed = id_ in now.size and now.content.get(id_) != was.content.get(id_)
        same = known is not None and not (moves or names_changed or content_changed)
        if same and attributes == was.attributes.get(id_):
            continue
        directory = id_ in now.names
        told = Object(
            id_,
            (rnd or random).choice(known) if known else None,
            attributes,
            now.size.get(id_, 0),
            b"" if stat.S_ISREG(attributes.mode) else now.content.get(id_, b""),
            1 if directory else len(now.paths[id_]),
            moves,
        )
        group: list[Told] = [(RecordKind.OBJECT, encode(told), told)]
        if directory and names_changed:
            group += _names(id_, was, now, rnd)
        if stat.S_ISREG(attributes.mode) and content_changed:
            group += list(_blocks(was.content.get(id_, b"") if known else b"", now.content[id_]))
        groups.append(group)
    if rnd is not None:
        rnd.shuffle(groups)
    return [record for group in groups for record in group]


def _names(id_: ObjectId, was: Look, now: Look, rnd: random.Random | None) -> list[Told]:
    old = was.names.get(id_, {})
    names = [Name(name, child, old.get(name) == child) for name, child in sorted(now.names[id_].items())]
    step = rnd.choice((1, 2, 100)) if rnd is not None else 100
    pieces = [names[at : at + step] for at in range(0, len(names), step)] or [[]]
    made = [Names(piece, last=number == len(pieces) - 1) for number, piece in enumerate(pieces)]
    return [(RecordKind.NAMES, encode(one), one) for one in made]


def _blocks(old: bytes, new: bytes) -> Iterator[Told]:
    for at in range(0, len(new), BLOCK):
        piece = new[at : at + BLOCK]
        if piece == old[at : at + BLOCK]:
            continue
        if not any(piece):
            if at < len(old):
                zeros = Zeros(at, len(piece))
                yield RecordKind.ZEROS, encode(zeros), zeros
            continue
        yield RecordKind.CONTENT, at.to_bytes(8, "little") + piece, (at, piece)


def end_of(records: list[Told], number: int, before: bytes, group: int = 0) -> End:
    """As the source tells it; `group`: of the point of several volumes that it is of."""
    digest = PointDigest(before)
    for kind, payload, _ in records:
        digest.add(kind, payload)
    at_ns = 1_000_000_000 * number
    return End(number, len(records), digest.digest(), before, at_ns, group=group, group_ns=at_ns if group else 0)


def feed(incoming: Incoming, records: list[Told]) -> None:
    """As a session does."""
    for kind, payload, told in records:
        if kind is RecordKind.OBJECT:
            assert isinstance(told, Object)
            incoming.object(payload, told)
        elif kind is RecordKind.NAMES:
            assert isinstance(told, Names)
            incoming.names(payload, told)
        elif kind is RecordKind.ZEROS:
            assert isinstance(told, Zeros)
            incoming.zeros(told.offset, told.length)
        else:
            incoming.content(int.from_bytes(payload[:8], "little"), memoryview(payload)[8:])


def commit(journal: Journal, records: list[Told], number: int, before: bytes | None = None) -> Commit:
    """Have the point come in and be committed."""
    base = journal.base if before is None else before
    incoming = journal.begin(1, number, base)
    feed(incoming, records)
    return journal.commit(end_of(records, number, base), lambda gone, new: None)


def hold(journal: Journal, records: list[Told], number: int, group: int, before: bytes | None = None) -> Commit:
    """As `commit`, of a group: it is held back."""
    base = journal.base if before is None else before
    feed(journal.begin(1, number, base), records)
    return journal.commit(end_of(records, number, base, group), lambda gone, new: None, hold=True)


def take(journal: Journal, records: list[Told], number: int, before: bytes | None = None) -> None:
    """All of it."""
    journal.apply(commit(journal, records, number, before))


def equal(source: Path, target: Path) -> str:
    """What rsync finds different, or we do; empty: nothing."""
    done = subprocess.run(
        ["rsync", "-anciHAX", *_RSYNC, f"{source}/", f"{target}/"],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    return done.stdout + done.stderr + "\n".join(differences(source, target))


def copy(source: Path, target: Path) -> None:
    """Make an empty one equal, to the nanosecond, as a mirror leaves it."""
    names = [name for name in os.listdir(source) if os.fsencode(name) not in OURS]
    if names:
        subprocess.run(["cp", "-a", "--", *(str(source / name) for name in names), str(target)], check=True)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    found = os.stat(source)
    os.chmod(target, found.st_mode)
    os.chown(target, found.st_uid, found.st_gid)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


class Tree:
    """A tree that is changed at random, in all the ways that hurt."""

    def __init__(self, root: Path, rnd: random.Random) -> None:
        self.root = root
        self.rnd = rnd
        self._number = 0

    def grow(self, steps: int) -> None:
        """So many changes."""
        for _ in range(steps):
            with suppress(OSError, IndexError):
                self.rnd.choice(
                    [self._file] * 5 + [self._directory] * 4 + [self._write] * 4 + [self._rename] * 6
                    + [self._swap, self._cycle, self._link, self._link, self._unlink, self._unlink, self._remove]
                    + [self._symlink, self._special, self._chmod, self._chmod, self._retype, self._cut, self._xattr]
                    + [self._reuse, self._onto]
                )()  # fmt: skip

    def _walk(self) -> tuple[list[Path], list[Path]]:
        directories, others = [self.root], []
        for where, names, files in os.walk(self.root):
            if Path(where) == self.root:
                names[:] = [name for name in names if os.fsencode(name) not in OURS]
            directories += [Path(where) / name for name in names if not (Path(where) / name).is_symlink()]
            others += [Path(where) / name for name in files]
            others += [Path(where) / name for name in names if (Path(where) / name).is_symlink()]
        return sorted(directories), sorted(others)

    def _a_directory(self) -> Path:
        return self.rnd.choice(self._walk()[0])

    def _other(self) -> Path:
        return self.rnd.choice(self._walk()[1])

    def _any(self) -> Path:
        directories, others = self._walk()
        return self.rnd.choice([path for path in directories + others if path != self.root])

    def _name(self) -> str:
        self._number += 1
        return f"n{self._number}" if self.rnd.random() < 0.5 else self.rnd.choice("abcdefgh")

    def _file(self) -> None:
        self._put(self._a_directory() / self._name(), self.rnd.choice((0, 1, 5000, 20_000)))

    def _put(self, path: Path, size: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o644)
        try:
            os.write(fd, self.rnd.randbytes(size))
        finally:
            os.close(fd)

    def _directory(self) -> None:
        (self._a_directory() / self._name()).mkdir(exist_ok=True)

    def _write(self) -> None:
        path = self._other()
        if path.is_symlink() or not path.is_file():
            return
        with open(path, "r+b") as file:
            file.seek(self.rnd.randrange(30_000))
            file.write(self.rnd.randbytes(self.rnd.choice((1, 4096, 9000))))

    def _cut(self) -> None:
        path = self._other()
        if not path.is_symlink() and path.is_file():
            size = self.rnd.choice((0, 3000, 40_000, 100_000))
            os.truncate(path, self.rnd.choice((0, 10)))
            os.truncate(path, size)

    def _rename(self) -> None:
        os.rename(self._any(), self._a_directory() / self._name())

    def _onto(self) -> None:
        os.rename(self._other(), self._other())

    def _swap(self) -> None:
        one, other, aside = self._any(), self._any(), self.root / "aside"
        os.rename(one, aside)
        try:
            os.rename(other, one)
        except OSError:
            os.rename(aside, one)
            raise
        try:
            os.rename(aside, other)
        except OSError:
            os.rename(one, other)
            os.rename(aside, one)
            raise

    def _cycle(self) -> None:
        for _ in range(3):
            self._swap()

    def _link(self) -> None:
        os.link(self._other(), self._a_directory() / self._name(), follow_symlinks=False)

    def _unlink(self) -> None:
        os.unlink(self._other())

    def _remove(self) -> None:
        path = self._a_directory()
        if path != self.root:
            shutil.rmtree(path)

    def _symlink(self) -> None:
        os.symlink(self._name(), self._a_directory() / self._name())

    def _special(self) -> None:
        path = self._a_directory() / self._name()
        if self.rnd.random() < 0.5:
            os.mkfifo(path)
        else:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))

    def _chmod(self) -> None:
        path = self._any()
        if not path.is_symlink():
            os.chmod(path, self.rnd.choice((0o700, 0o755, 0o4711, 0o000)))
        os.chown(path, self.rnd.choice((0, 77)), self.rnd.choice((0, 88)), follow_symlinks=False)
        os.utime(path, ns=(0, self.rnd.randrange(1 << 60)), follow_symlinks=False)

    def _xattr(self) -> None:
        path = self._any()
        if not path.is_symlink():
            os.setxattr(path, "trusted.x", self.rnd.randbytes(10), follow_symlinks=False)

    def _retype(self) -> None:
        path = self._any()
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            self._put(path, 14)
        else:
            os.unlink(path)
            path.mkdir()
            (path / "in it").write_text("x")

    def _reuse(self) -> None:
        """A number of an inode that is given again at once."""
        path = self._other()
        os.unlink(path)
        self._put(path, 6000)
