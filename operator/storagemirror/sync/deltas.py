"""Sending of large files that differ only what differs.

Both sides read the file at the same time: the target tells the sums of its blocks (`storagemirror.fs.blocks`), some
questions ahead, also of the files that come next; the source reads its own and sends each block whose sum is another.
Nothing waits for an answer but the first file.

What is sent is checksummed as that of a whole file is. What is not sent is vouched for by the sums: 128 bits a block.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from xxhash import xxh3_128

from storagemirror.entry import Attributes, Entry, split
from storagemirror.fs.blocks import BLOCK, PIECE, SUM, BlockReader, blocks_in, differing
from storagemirror.fs.source import unchanged
from storagemirror.sync import shifts
from storagemirror.sync.inbox import Inbox
from storagemirror.sync.sender import Sender, Unsettled
from storagemirror.wire import messages as m
from storagemirror.wire.content import ContentDigest
from storagemirror.wire.frame import SMALL_FILE

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
_QUEUE = 1_000
"""So many files are gathered before they are sent."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    path: bytes
    blocks: int
    """That both sides have."""

    @property
    def questions(self) -> range:
        """The first block of each."""
        return range(0, self.blocks, m.BLOCKS_COUNT)


@dataclass(frozen=True, slots=True)
class _Open:
    path: bytes
    fd: int
    found: os.stat_result
    attributes: Attributes


@dataclass(slots=True)
class Deltas:
    """Gathers large files, and sends them. For the session's thread."""

    sender: Sender
    inbox: Inbox
    able: bool
    """Whether the target understands deltas."""
    in_vain: shifts.InVain
    partial: bytes = b""
    """Path of the file of which the target has what came before; empty: of none."""
    partial_size: int = 0
    finds_moved: bool = True
    """Whether content that has moved within a file is looked for: not where the target writes into its base."""
    read: int = 0
    """Bytes of files that were looked at for what differs."""
    _number: int = 0
    _wanted: list[_Wanted] = field(default_factory=list)
    _questions: Iterator[m.Blocks] = field(default_factory=lambda: iter(()))
    _open: int = 0
    """Questions that are not answered yet."""

    def takes(self, mine: Entry | None, theirs: Entry | None) -> bool:
        """Whether an entry that differs is sent as a delta: where it is a large file on both sides."""
        return (
            self.able
            and mine is not None
            and theirs is not None
            and stat.S_ISREG(mine.mode)
            and stat.S_ISREG(theirs.mode)
            and min(mine.size, theirs.size) > SMALL_FILE
        )

    def add(self, path: bytes, size: int) -> None:
        """This one differs; both sides have about so many bytes of it."""
        self._wanted.append(_Wanted(path, blocks_in(size + shifts.LIMIT)))

    @property
    def many(self) -> bool:
        """Whether so many were gathered that they should be sent."""
        return len(self._wanted) >= _QUEUE

    def send(self) -> set[bytes]:
        """Send what was gathered; the directories that this touched. Raises what the target raises."""
        wanted, self._wanted = self._wanted, []
        if not wanted:
            return set()
        self.sender.flush()
        first = self._number
        self._number += len(wanted)
        self._questions = (
            m.Blocks(number, file.path, block, min(m.BLOCKS_COUNT, file.blocks - block))
            for number, file in enumerate(wanted, first)
            for block in file.questions
        )
        for number, file in enumerate(wanted, first):
            self._file(number, file)
        return {split(file.path)[0] for file in wanted}

    # -- what the target has

    def _ask(self) -> None:
        """As many questions as may be open."""
        while self._open < m.BLOCKS_WINDOW and (question := next(self._questions, None)) is not None:
            self._open += 1
            self.inbox.ask_blocks(question)

    def _answer(self) -> m.BlockSums:
        self._ask()
        answer = self.inbox.block_sums()
        self._open -= 1
        return answer

    # -- one file

    def _file(self, number: int, file: _Wanted) -> None:
        theirs = _Theirs(self, len(file.questions))
        theirs.begin()
        try:
            self._send_file(number, theirs, file.path)
        except OSError as e:
            if e.errno not in _GONE:
                self.sender.unreadable(file.path, e)
        theirs.pass_over()
        if theirs.has_base:
            self.sender.channel.send(m.LetGo(number))

    def _send_file(self, number: int, theirs: _Theirs, path: bytes) -> None:
        sender = self.sender
        parent, name = split(path)
        with sender.volume.directory(parent, sender.view, sender.report) as directory:
            fd, found = directory.open_file(name)
            try:
                if theirs.has_base and found.st_size > SMALL_FILE and not directory.is_foreign(found):
                    if sender.flagging is not None:
                        sender.flagging.seen(path, fd)
                    attributes = directory.file_attributes(fd, found, name)
                    self._delta(number, theirs, _Open(path, fd, found, attributes))
                    return
            finally:
                os.close(fd)
            sender.enter(parent, fresh=False)
            sender.file(directory, name)
            sender.flush()

    def _delta(self, number: int, theirs: _Theirs, file: _Open) -> None:
        sender, fd, before, path = self.sender, file.fd, file.found, file.path
        racy = sender.is_racy(before)
        attributes = sender.rounded(file.attributes)
        theirs.has_base = False
        sender.channel.send(m.Delta(number, path, sender.wrong_time(attributes), before.st_size))
        digest, sums = ContentDigest(), xxh3_128()
        try:
            size = self._pieces(file, theirs, digest, sums)
        except OSError:
            sender.channel.send(m.Drop())
            raise
        steady = size == before.st_size and unchanged(before, os.fstat(fd))
        known = Unsettled(sums.digest() if steady else b"", before, blocks=True)
        sender.end_large(path, attributes, digest, known, settled=steady and not racy)

    def _pieces(self, file: _Open, theirs: _Theirs, digest: ContentDigest, sums: xxh3_128) -> int:
        """Send what differs; the size up to which the file could be read."""
        fd, size = file.fd, file.found.st_size
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        footprint = self.sender.volume.reading.large(fd, size)
        reader, moved = BlockReader(fd, size, footprint), shifts.Shifts(fd, size, theirs)
        finds_moved = self.finds_moved and not self.in_vain.lately(file.found.st_ino)
        try:
            for offset in range(0, size, PIECE):
                piece = reader.read(offset)
                self.read += piece.length
                sums.update(piece.sums)
                known = theirs.sums(offset // BLOCK, blocks_in(piece.length))
                if piece.sums != known:
                    if finds_moved and piece.content is not None and shifts.all_differ(piece.sums, known):
                        shift = moved.find(offset, offset)
                        if shift:
                            end = self._moved(moved, offset, shift, digest)
                            sums.reset()
                            sums.update(b"".join(reader.read(at).sums for at in range(0, size, PIECE)))
                            return end
                    for begin, end, hole in differing(piece, known, reader, offset):
                        self._send(offset + begin, end - begin, None if hole else piece.content, begin, digest)
                self.sender.sent(0, piece.length)
                if piece.length < min(PIECE, size - offset):
                    return offset + piece.length  # it was cut short meanwhile
            return size
        finally:
            footprint.end()
            if moved.in_vain:
                self.in_vain.note(file.found.st_ino)

    def _moved(self, moved: shifts.Shifts, offset: int, shift: int, digest: ContentDigest) -> int:
        """Send the rest of a file whose content has moved; the size up to which it could be read."""
        channel = self.sender.channel
        for stretch in moved.stretches(offset, shift):
            if isinstance(stretch, shifts.Same):
                digest.add_copy(stretch.offset, stretch.start, stretch.length)
                channel.send(m.Copy(stretch.offset, stretch.start, stretch.length))
                self.sender.sent(0, stretch.length)
                continue
            digest.add(stretch.offset, stretch.content)
            channel.send_data(stretch.offset, stretch.content)
            self.sender.counts.bytes += stretch.content.nbytes
            self.sender.sent(0, stretch.content.nbytes)
        return moved.end

    def _send(self, offset: int, length: int, content: memoryview | None, begin: int, digest: ContentDigest) -> None:
        sender = self.sender
        if content is None:
            digest.add_hole(offset, length)
            sender.channel.send(m.Hole(offset, length))
            return
        part = content[begin : begin + length]
        digest.add(offset, part)
        sender.channel.send_data(offset, part)
        sender.counts.bytes += length


@dataclass(slots=True)
class _Theirs:
    """What the target tells of one file."""

    _deltas: Deltas
    _left: int
    """Answers that have not been taken."""
    has_base: bool = False
    """The target keeps it open until it hears of a Delta, or that there is none."""
    _answers: deque[m.BlockSums] = field(default_factory=lambda: deque(maxlen=3))
    """The last ones: content may have moved by less than one of them covers."""

    def begin(self) -> None:
        """Take the first answer."""
        self._next()
        self.has_base = self._answers[-1].size is not None

    def _next(self) -> None:
        self._answers.append(self._deltas._answer())
        self._left -= 1

    def _reach(self, block: int) -> None:
        while self._left and block >= self._answers[-1].first + m.BLOCKS_COUNT:
            self._next()

    def sums(self, first: int, count: int) -> bytes:
        """Of these blocks, as far as the target has them, and they were not told long ago."""
        self._reach(first + count - 1)
        found = b""
        for answer in self._answers:
            if answer.first <= first < answer.first + m.BLOCKS_COUNT:
                at = (first - answer.first) * SUM
                part = answer.sums[at : at + count * SUM]
                found += part
                first, count = first + len(part) // SUM, count - len(part) // SUM
        return found

    def anchors(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """See `shifts.Known`."""
        self._reach(end // BLOCK)
        for answer in list(self._answers):
            for number in range(len(answer.anchors) // m.ANCHOR):
                offset = (answer.first + number * m.ANCHOR_BLOCKS) * BLOCK
                if begin <= offset < end:
                    yield offset, answer.anchors[number * m.ANCHOR : (number + 1) * m.ANCHOR]

    def pass_over(self) -> None:
        """The rest is not needed."""
        while self._left:
            self._next()
