"""A mirror whose target loses its power, again and again; what has to hold after each cut.

One session writes to a disk that remembers its writes. Then the power is cut at random places of what it wrote, as
often as wanted, and each time: the file system mounts; what was answered with MARKED is there, byte for byte; and the
next run of the engine leaves both sides equal, judged by rsync with checksums.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.fs.syscalls import syncfs
from storagemirror.sync.requests import Changes
from tests.support import trees
from tests.support.engine import joined, mirror
from tests.support.power_disk import PowerDisk, cut, mounted_after, power_disk

LARGE = "large"
"""A file of which a delta is written in place, where the file system shares no blocks."""

Facts = tuple[int, int, str]


def facts(root: Path) -> dict[str, Facts]:
    """Of each regular file: size, modification time, hash of its content."""
    found = {}
    for here, directories, files in os.walk(root):
        if here == str(root):
            directories[:] = [name for name in directories if name not in (".storagemirror", "lost+found")]
        for name in files:
            path = os.path.join(here, name)
            st = os.lstat(path)
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
            found[os.path.relpath(path, root)] = (st.st_size, st.st_mtime_ns, content)
    return found


@dataclass
class Mark:
    """What was answered with MARKED, and where in the log that was known."""

    at: int
    files: dict[str, Facts]
    touched: set[str] = field(default_factory=set)
    """Changed on the source since, up to the next mark."""


@dataclass
class Story:
    """A session that was recorded, and what its source was."""

    disk: PowerDisk
    source: Path
    marks: list[Mark]
    begin: int
    end: int


@dataclass
class Outcome:
    """Of one cut."""

    written: int
    lost: int
    marked: int
    """Files that had to be there."""
    lying: list[str]
    """Files that had the size and the time of the source's, and another content, before the next run: a comparison by
    size and time alone would have missed them."""


class Application:
    """Writes to the source, and knows what it touched."""

    def __init__(self, root: Path, rnd: random.Random) -> None:
        self.root = root
        self._rnd = rnd
        self._number = 0

    def step(self) -> Changes:
        """Some changes, as a watch would tell them."""
        rnd = self._rnd
        paths: set[bytes] = set()
        files = sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())
        for _ in range(rnd.randint(5, 25)):
            self._number += 1
            roll = rnd.random()
            if roll < 0.45 or not files:
                name = f"d{rnd.randint(0, 5)}/n{self._number}"
                (self.root / name).parent.mkdir(exist_ok=True)
                (self.root / name).write_bytes(rnd.randbytes(rnd.choice((10, 3_000, 40_000, 400_000))))
                paths.update({name.encode(), name.rpartition("/")[0].encode()})
                continue
            name = rnd.choice(files) if rnd.random() < 0.9 else LARGE
            if not (self.root / name).exists():
                continue
            if roll < 0.85 or name == LARGE:
                size = (self.root / name).stat().st_size
                with open(self.root / name, "r+b") as file:  # the same size, in place: nothing but the time tells
                    file.seek(rnd.randrange(size) if size else 0)
                    file.write(rnd.randbytes(min(size, 5_000) or 5))
            else:
                (self.root / name).unlink()
            paths.add(name.encode())
        return Changes(paths=frozenset(paths))


def _write_back(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def tell(disk: PowerDisk, source: Path, rnd: random.Random, steps: int = 12) -> Story:
    """Mirror `source` onto the disk, and change it, with marks in between."""
    trees.many(source, 60, seed=rnd.randrange(1 << 30), size=20_000)
    (source / LARGE).write_bytes(rnd.randbytes(12 << 20))
    marks: list[Mark] = []
    begin = disk.now()
    application = Application(source, rnd)
    with joined(source, disk.path, sync_at_end=False) as pair:
        pair.mirror()
        pair.source.mark(1)
        marks.append(Mark(disk.now(), facts(source)))
        for number in range(steps):
            changes = application.step()
            marks[-1].touched.update(os.fsdecode(path) for path in changes.paths)
            pair.source.apply(changes)
            if rnd.random() < 0.4:
                pair.source.mark(number + 2)
                marks.append(Mark(disk.now(), facts(source)))
            elif rnd.random() < 0.3:
                _write_back(disk.path)  # the kernel writes on its own account too
        end = disk.now()
    return Story(disk, source, marks, begin, end)


def cut_and_repair(story: Story, directory: Path, rnd: random.Random) -> Outcome:
    """One cut, at a place that chance chooses. `AssertionError` says what did not hold."""
    at = rnd.randint(story.begin, story.end)
    image = directory / "cut.img"
    lost = cut(story.disk, at, image, rnd)
    try:
        with mounted_after(image, story.disk.kind, directory / "after") as target:
            found = facts(target)
            marked = _check_marked(story, at, found)
            now = facts(story.source)
            lying = sorted(n for n, f in found.items() if n in now and f[:2] == now[n][:2] and f[2] != now[n][2])
            mirror(story.source, target)
            differences = trees.rsync_differences(story.source, target)
            assert differences == "", f"cut at {at}: {differences[:1000]}"
    finally:
        image.unlink()
    return Outcome(lost.written, lost.lost, marked, lying)


def cut_while_repairing(story: Story, directory: Path, rnd: random.Random) -> Outcome:
    """A cut, and another in the middle of the run that repairs what the first one left."""
    image = directory / "first.img"
    cut(story.disk, rnd.randint(story.begin, story.end), image, rnd)
    again = directory / f"again{rnd.randrange(1 << 30)}"
    with power_disk(again, story.disk.kind, 0, image_of=image) as disk:
        begin = disk.now()
        with joined(story.source, disk.path, sync_at_end=False) as pair:
            pair.mirror()
            end = disk.now()
    image.unlink()
    outcome = cut_and_repair(Story(disk, story.source, [], begin, max(begin, end)), directory, rnd)
    shutil.rmtree(again)
    return outcome


def _check_marked(story: Story, at: int, found: dict[str, Facts]) -> int:
    done = [mark for mark in story.marks if mark.at <= at]
    if not done:
        return 0
    mark = done[-1]
    missing = [name for name, fact in mark.files.items() if name not in mark.touched and found.get(name) != fact]
    assert missing == [], f"cut at {at}: was marked and is not there: {missing[:5]}"
    return len(mark.files) - len(mark.touched & set(mark.files))
