"""The messages of the protocol, as docs/protocol.md lists them.

Each is a frame of its own type. Payloads are MessagePack, typed and checked while they are decoded, save for the two
that carry content (`Pack` and `Data`, see `storagemirror.wire.content`).
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec

from storagemirror.contract import Role
from storagemirror.entry import Attributes, Entry, Identity, NotKeptKind, Origin, Size, TimeNs, View
from storagemirror.point import End as EndOfPoint
from storagemirror.point import Number
from storagemirror.terms import EXACT, Terms

PROTOCOL_VERSION = 1
"""Raised when an old peer could misunderstand a new one. Features are for everything else."""

OLDEST_VERSION = 1
"""The oldest version that this code still speaks."""

FEATURE_SUMS = "sums"
"""Sum and Tally: both sides can prove by checksum that they hold the same."""
FEATURE_MANIFEST = "manifest"
"""Manifest: the source can say what its volume held when it was promoted."""
FEATURE_COMPRESS = "compress"
"""Compressed and Fragment: other frames may come in these (`storagemirror.wire.envelope`)."""
FEATURE_FLAGS = "flags"
"""Flags: inode flags and project ids are told apart from all else."""
FEATURE_SELINUX = "selinux"
"""A target whose file system takes SELinux labels of us."""
FEATURE_DELTA = "delta"
"""Blocks and Delta: of a large file that differs only the blocks that differ are sent."""
FEATURE_VERIFY = "verify"
"""Hello.look and Examine: a session that writes nothing, and what is at a path, content and all."""
FEATURE_TERMS = "terms"
"""Hello says what is mirrored at all, and what becomes of orphans."""
FEATURE_MOVE = "move"
"""Moves: what was renamed is renamed, where both sides find the same content."""
FEATURE_POINTS = "points"
"""Point: the source can tell whole points, and the target keeps a journal of them."""
FEATURE_HOLD = "hold"
"""PointRelease: a point of a group is held back by the target until the source says that all volumes have theirs."""
FEATURES = (
    FEATURE_SUMS,
    FEATURE_MANIFEST,
    FEATURE_FLAGS,
    FEATURE_DELTA,
    FEATURE_MOVE,
    FEATURE_COMPRESS,
    FEATURE_VERIFY,
    FEATURE_TERMS,
    FEATURE_POINTS,
    FEATURE_HOLD,
)

SUM_PATHS = 1_000
"""Paths in one Sum, at most."""
SUM_WINDOW = 8
"""Sums that are not tallied yet, at most."""
BLOCKS_COUNT = 1_024
"""Blocks in one question, at most: 64 MiB of a file."""
ANCHOR = 32
"""Bytes of one anchor."""
ANCHOR_BLOCKS = 16
"""From one to the next."""
BLOCKS_WINDOW = 16
"""Blocks that are not answered yet, at most."""
EXAMINE_PATHS = 200
"""Paths in one Examine, at most: their answer fits a frame."""


Epoch = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Base of all messages."""


class Hello(Message, frozen=True, array_like=True):
    """Source: who I am, and which volume I come from. The first frame of a connection."""

    version: int
    role: Role
    pair_uid: str
    volume: str
    epoch: int
    instance: int
    identity: Identity
    """Of the source's file system."""
    features: tuple[str, ...] = ()
    """What I can do beyond this version; both do only what both can."""
    software: str = ""
    stream: int = 0
    """0: the connection of the session, the only one there is."""
    now_ns: TimeNs | None = None
    """What the source's clock says, nanoseconds since the Unix epoch."""
    origin: Origin | None = None
    """Of a volume that was a copy once, and was made live."""
    look: bool = False
    """I only compare: nothing is written on the target, whoever's copy it is."""
    terms: Terms = EXACT
    """Under which I mirror."""


class Welcome(Message, frozen=True, array_like=True):
    """Target: come in. What I have, and what I can hold."""

    version: int
    epoch: int
    view: View
    has_entries: bool
    """False: there is nothing to compare with, send everything."""
    entries: int | None = None
    """Counted when the last full mirror ended; None before the first."""
    synced_through_ns: int = 0
    """As the last mark said; 0 when unknown."""
    features: tuple[str, ...] = ()
    software: str = ""
    manifest: Epoch = 0
    """Before anything else: what did your volume hold when it was promoted at this epoch? 0: that is not asked."""
    flags_through_ns: TimeNs = 0
    """Inode flags of what the source did not change since then, by its clock, are known here; 0: of nothing."""
    flagged: bool = False
    """Something here may have flags: tell where there are none, too."""
    partial: bytes = b""
    """Path of a large file of which something has come before; empty: of none."""
    partial_size: Size = 0
    """How much of it at most."""
    capacity: Size = 0
    """Of my file system, bytes; 0: not told."""
    free: Size = 0
    point: Number = 0
    """Number of the latest point that is durable here; 0: there was none yet. The next has a higher one."""
    point_digest: bytes = b""
    """What `End.before` of the next point must be, and so which its base is; empty: no point (any more), only what a
    mirror leaves can be the base."""
    point_at_ns: TimeNs = 0
    """The moment whose state that point is, on the source's clock."""
    point_held: bool = False
    """That point is held back: it is durable, and PointRelease is waited for."""


class RefusalReason(StrEnum):
    """Why a target does not let a source in."""

    TARGET_NOT_EMPTY = "TargetNotEmpty"
    TARGET_OWNED_BY_ANOTHER = "TargetOwnedByAnother"
    TARGET_NOT_WRITABLE = "TargetNotWritable"
    TARGET_BUSY = "TargetBusy"
    TARGET_FULL = "TargetFull"
    EPOCH_TOO_OLD = "EpochTooOld"
    EPOCH_TOO_NEW = "EpochTooNew"
    """The target has not been told of this epoch yet; passes."""
    WRONG_PAIR = "WrongPair"
    WRONG_VOLUME = "WrongVolume"
    WRONG_ROLE = "WrongRole"
    VERSION_TOO_OLD = "VersionTooOld"
    VERSION_TOO_NEW = "VersionTooNew"
    SUPERSEDED = "Superseded"
    """A source agent of a later instance has been here."""
    TERMS_DIFFER = "TermsDiffer"
    """The target was told of other terms than the source; passes."""
    TARGET_UNUSABLE = "TargetUnusable"
    SOURCE_NOT_PROMOTED = "SourceNotPromoted"
    """Restore: the source is not the copy of this pair that was made live."""


class Refuse(Message, frozen=True, array_like=True):
    """Target: no. The last frame of a connection."""

    reason: RefusalReason
    message: str
    hint: str = ""


class HoldReason(StrEnum):
    """Why a target stopped on purpose."""

    MASS_DELETE = "MassDelete"
    SOURCE_REPLACED = "SourceReplaced"


class Hold(Message, frozen=True, array_like=True):
    """Target: stopped before harm was done; a person must confirm `token`. The last frame of a connection."""

    reason: HoldReason
    message: str
    token: str
    hint: str = ""


class Ping(Message, frozen=True, array_like=True):
    """Either: I am here. Sent when nothing else was for a while; by the source also between all else."""

    now_ns: TimeNs | None = None
    """Of the source: what its clock says, nanoseconds since the Unix epoch."""


class Bye(Message, frozen=True, array_like=True):
    """Source: that was all, in good order. The last frame of a connection."""


class FailureReason(StrEnum):
    """Why an entry, or a session, failed."""

    FULL = "Full"
    """No space, no inodes, or no quota."""
    READ_ONLY = "ReadOnly"
    """The file system refuses all writing."""
    DENIED = "Denied"
    IO = "InputOutput"
    """The disk failed."""
    CONFLICT = "Conflict"
    """Something else is in the way, and may not be removed."""
    GUARDED = "Guarded"
    """Not deleted: the guard first wants a full comparison."""
    DAMAGED = "Damaged"
    """What arrived is not what was sent."""
    OTHER = "Other"
    PROTOCOL = "Protocol"
    """The peer broke the protocol."""
    SUPERSEDED = "Superseded"
    """A newer order has taken over."""


class Failed(Message, frozen=True, array_like=True):
    """Target: this entry could not be written; the rest goes on."""

    path: bytes
    reason: FailureReason
    message: str


class NotKept(Message, frozen=True, array_like=True):
    """Target: the entry was written, but this could not be kept."""

    kind: NotKeptKind
    path: bytes


class Abort(Message, frozen=True, array_like=True):
    """Either: I cannot go on. The last frame of a connection."""

    reason: FailureReason
    message: str


class Mirror(Message, frozen=True, array_like=True):
    """Source: begin to compare. Target: answers with `Digests` until `last`, when asked to."""

    view: View
    scopes: tuple[bytes, ...] = (b"",)
    """Directories that are compared, with all below; `(b"",)` is a full mirror."""
    digests: bool = True
    follows: bool = False
    """Of a full one: changes follow as they come. What somebody else changes on the target from then on is told by
    `Disturbed`."""


class DirectoryDigest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One directory of the target, in one number."""

    path: bytes
    digest: bytes
    """xxh3_128 over its attributes and its entries."""
    entries: int
    """How many names are in it."""


class Digests(Message, frozen=True, array_like=True):
    """Target: my directories, in the order of the walk."""

    directories: list[DirectoryDigest]
    last: bool = False


class Credit(Message, frozen=True, array_like=True):
    """Source: send so many more `Digests`."""

    frames: int


class Want(Message, frozen=True, array_like=True):
    """Source: list these directories, or say what these paths are."""

    directories: list[bytes]


class Listing(Message, frozen=True, array_like=True):
    """Target: one directory, as the walk saw it. Large ones come in several frames, in order."""

    path: bytes
    attributes: bytes | None
    """xxh3_128 of the directory's own attributes in this view; None: it is not a directory (any more)."""
    entries: list[Entry]
    last: bool = True


class Look(Message, frozen=True, array_like=True):
    """Source: what have you got at these paths?"""

    paths: list[bytes]


class Looked(Message, frozen=True, array_like=True):
    """Target: this; None where there is nothing."""

    entries: list[Entry | None]
    attributes: list[bytes]
    """For each entry that is a directory xxh3_128 of its attributes in this view, else empty."""


class Doomed(Message, frozen=True, array_like=True):
    """Source: these are to be deleted, with all that is below. Nothing is deleted yet."""

    paths: list[bytes]
    last: bool = False
    remaining: int = 0
    """With the last: how many entries the source has."""
    in_the_way: bool = False
    """Directories in whose place the source has something else."""


class Cleared(Message, frozen=True, array_like=True):
    """Target: answer to the last `Doomed`: so many entries may be deleted. (Else it answers `Hold`.)"""

    entries: int


class Delete(Message, frozen=True, array_like=True):
    """Source: I do not have these: delete them, with all that is below, or do with them what the terms say."""

    paths: list[bytes]
    in_the_way: bool = False
    """As in `Doomed`."""


class Rename(Message, frozen=True, array_like=True):
    """Source: this was renamed. Where it cannot be done it is left: both paths are looked at afterwards."""

    renames: list[tuple[bytes, bytes]]


class Link(Message, frozen=True, array_like=True):
    """Source: `path` is a further name of the file `leader`."""

    path: bytes
    leader: bytes


class Begin(Message, frozen=True, array_like=True):
    """Source: a large file follows in `Data` frames, then `End`. It gets its name when it is whole."""

    path: bytes
    attributes: Attributes
    """With a time that is wrong by one grain: the right one comes with `End`, when the file stood still."""
    size: Size
    """Expected bytes."""


class End(Message, frozen=True, array_like=True):
    """Source: that was the file. `size` is where it ends (holes included)."""

    size: Size
    digest: bytes
    """xxh3_128 over all data sent, each piece preceded by its offset as 8 bytes, little-endian."""
    mtime_ns: TimeNs | None = None
    """None: it changed while it was read, or may have; the wrong time stays, so that it is looked at again."""


class Drop(Message, frozen=True, array_like=True):
    """Source: forget the file that was begun: it vanished, or changed too often."""


class Blocks(Message, frozen=True, array_like=True):
    """Source: what are the sums of these blocks of the file at `path`? (`storagemirror.fs.blocks` says what a block
    is.) The first question with a `number` opens the file: it is the *base* of the Delta with this number."""

    number: Size
    path: bytes
    first: Size
    """Number of a block."""
    count: Annotated[int, msgspec.Meta(ge=1, le=BLOCKS_COUNT)]


class BlockSums(Message, frozen=True, array_like=True):
    """Target: answer to each Blocks, in their order."""

    number: Size
    first: Size
    size: Size | None
    """Of the base; None: there is no regular file that can be read, and no base."""
    sums: bytes
    """16 bytes each, of as many of the blocks as the base has."""
    anchors: bytes = b""
    """The first `ANCHOR` bytes of every 16th of these blocks, the first included, as far as the base has them."""


class Delta(Message, frozen=True, array_like=True):
    """Source: the file at `path` follows as what differs from its base: Data and Hole in the order of their offsets,
    then End. What is not told is as in the base."""

    number: Size
    path: bytes
    attributes: Attributes
    """As in Begin."""
    size: Size
    """Expected bytes."""


class Hole(Message, frozen=True, array_like=True):
    """Source: zeros, within a Delta. The checksum in End counts it as its length, 8 bytes, at its offset."""

    offset: Size
    length: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class Copy(Message, frozen=True, array_like=True):
    """Source: at `offset` comes what the base has at `start`, within a Delta. The checksum in End counts it as start
    and length, 8 bytes each, at its offset."""

    offset: Size
    start: Size
    length: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class LetGo(Message, frozen=True, array_like=True):
    """Source: there will be no Delta with this number."""

    number: Size


class Move(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is at `new` here seems to be at `old` there."""

    old: bytes
    new: bytes
    digest: bytes
    """Of the content here, 16 bytes (`storagemirror.fs.contents`): it is renamed only where that is the target's."""
    directory: bool = False
    """A directory with all that is in it, otherwise a file."""


class Moves(Message, frozen=True, array_like=True):
    """Source: rename these, in this order, where what is there is the same. Nothing is ever replaced."""

    number: Size
    moves: list[Move]


class Moved(Message, frozen=True, array_like=True):
    """Target: answer to each Moves: which were renamed."""

    number: Size
    done: list[bool]


class MirrorEnd(Message, frozen=True, array_like=True):
    """Source: everything was compared and sent. Target: answers `Mirrored` once it has applied it all."""

    entries: int
    """On the source; the next guard counts against them."""
    full: bool
    """False when only scopes were compared."""


class Mirrored(Message, frozen=True, array_like=True):
    """Target: applied. What came of it."""

    deleted: int
    """Moved aside, too."""
    failed: int
    reason: FailureReason | None = None
    """Of the first that failed."""
    message: str = ""
    orphans: Size = 0
    """Entries that the source does not have and that were left."""
    moved: Size = 0
    """Of `deleted`, so many were moved aside."""
    first_orphans: tuple[bytes, ...] = ()
    """The first of what was left, where the terms say that they are told; 32 KiB together."""


class Mark(Message, frozen=True, array_like=True):
    """Source: make all that came before durable."""

    number: int
    through_ns: int
    """Nanoseconds since the Unix epoch on the source's clock."""


class Marked(Message, frozen=True, array_like=True):
    """Target: all before mark `number` is on the disk; or it is not, and why."""

    number: int
    failed: int = 0
    reason: FailureReason | None = None
    message: str = ""


class Sum(Message, frozen=True, array_like=True):
    """Source: what are the sums of these files, by their content? (`storagemirror.sync.sums` says what a sum is.)"""

    number: int
    paths: list[bytes]
    begin: bool = False
    """A proof begins anew: what was asked and counted before is forgotten, and not answered; nor is this one when it
    names no file."""


class Summed(Message, frozen=True, array_like=True):
    """Target: these, 16 bytes each; None where no file is, or it changed while it was read."""

    number: int
    sums: list[bytes | None]


class Tally(Message, frozen=True, array_like=True):
    """Source: those of list `number` are equal to mine and count, but for these (by their place in the list)."""

    number: int
    skipped: list[int] = []
    last: bool = False
    """Tell what it comes to."""


class Tallied(Message, frozen=True, array_like=True):
    """Target: answer to the last Tally: so many files counted, and the xxh3_128 over my sums of them in that order."""

    number: int
    files: int
    digest: bytes


class Examine(Message, frozen=True, array_like=True):
    """Source: what is at these paths, with the digest of its content?"""

    number: int
    paths: list[bytes]


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is at one path."""

    entry: Entry
    """Of a directory its own mode, owner, time and digest of extended attributes. Without a leader."""
    content: bytes = b""
    """Of a file the digest of its content (`storagemirror.sync.sums`), of a directory zeros; empty where it cannot be
    read, and of all else."""
    steady: bool = True
    """It did not change while it was read."""


class Examined(Message, frozen=True, array_like=True):
    """Target: this; None where nothing is."""

    number: int
    seen: list[Seen | None]


class Manifest(Message, frozen=True, array_like=True):
    """Source: what the target asked for in Welcome follows: first the digests of all directories."""

    epoch: Epoch
    """That was asked about."""
    known: bool
    """False: what was held then is not known any more, and what is held now follows."""
    view: View
    """What was looked at."""


class ManifestDigest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One directory of it, in two numbers."""

    path: bytes
    attributes: bytes
    """xxh3_128 of the directory's own attributes but its time."""
    digest: bytes
    """xxh3_128 over its entries. Hard links are not told: no entry has a leader."""
    entries: Size
    """How many names are in it."""


class ManifestDigests(Message, frozen=True, array_like=True):
    """Source: directories, in the order of the walk."""

    directories: list[ManifestDigest]
    last: bool = False


class ManifestWant(Message, frozen=True, array_like=True):
    """Target: answer to the last of them: list these, in the order in which they were told."""

    directories: list[bytes]
    last: bool = False


class ManifestPart(Message, frozen=True, array_like=True):
    """Source: one directory of those, in their order. Large ones come in several frames."""

    path: bytes
    entries: list[Entry]
    """Sorted by name."""
    last: bool = True


class ManifestEnd(Message, frozen=True, array_like=True):
    """Source: that was all that was wanted."""


class Kept(Message, frozen=True, array_like=True):
    """Target: whatever deviated is kept aside, durably. In all, all attempts together."""

    entries: Size
    bytes: Size
    deleted: Size


class InodeFlags(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of one file or directory, beside its attributes."""

    path: bytes
    flags: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
    """FS_*_FL bits, as of FS_IOC_GETFLAGS."""
    project: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)] = 0


class Flags(Message, frozen=True, array_like=True):
    """Source: these have these inode flags and project ids. Comes after all else that is done to them."""

    entries: list[InodeFlags]


class FlagsTold(Message, frozen=True, array_like=True):
    """Source: what of flags changed before this time on my clock was told."""

    through_ns: TimeNs


class Point(Message, frozen=True, array_like=True):
    """Source: a point begins. Its records follow (`storagemirror.point`), content as Data and zeros as Hole; then
    PointEnd, or Drop. The target answers PointDurable and PointApplied, or PointRefused."""

    number: Number
    """Higher than that of any point before."""
    before: bytes
    """Digest of its base; empty: that is what a mirror left."""


class PointEnd(Message, frozen=True, array_like=True):
    """Source: that was the point."""

    end: EndOfPoint


class PointDurable(Message, frozen=True, array_like=True):
    """Target: the point is on the disk, whole, and will be applied, whatever happens. One of a group is held back: it
    is applied, or dropped, as PointRelease says, or a promotion of all volumes."""

    number: Number
    digest: bytes


class PointApplied(Message, frozen=True, array_like=True):
    """Target: the volume is at this point."""

    number: Number


class PointRelease(Message, frozen=True, array_like=True):
    """Source: what becomes of the point that you hold back: apply it, all volumes of the group have theirs. The target
    answers PointApplied; PointRefused (Conflict) where it cannot any more; nothing where it is not held back."""

    number: Number
    drop: bool = False
    """Drop it instead: some volume has not got its point of that moment, and will not."""


class PointRefused(Message, frozen=True, array_like=True):
    """Target: nothing of this point is kept; the volume is at the point before. May come before PointEnd; what still
    comes of the point is passed over."""

    number: Number
    reason: FailureReason
    """Full: try again with all changes since. Conflict: the target is not what the base says it is: mirror first."""
    message: str
    path: bytes = b""


class Disturbed(Message, frozen=True, array_like=True):
    """Target: somebody else has changed what is here. Compare soon. Only to a source that said `Mirror.follows`."""


class FrameType(IntEnum):
    """The first byte of a frame."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    HOLD = 4
    PING = 5
    BYE = 6
    ABORT = 7
    MIRROR = 16
    DIGESTS = 17
    CREDIT = 18
    WANT = 19
    LISTING = 20
    LOOK = 21
    LOOKED = 22
    MIRROR_END = 23
    MIRRORED = 24
    SUM = 25
    SUMMED = 26
    TALLY = 27
    TALLIED = 28
    PACK = 32
    BEGIN = 33
    DATA = 34
    END = 35
    DROP = 36
    LINK = 37
    RENAME = 38
    DOOMED = 39
    CLEARED = 40
    DELETE = 41
    MARK = 48
    MARKED = 49
    FAILED = 50
    NOT_KEPT = 51
    MANIFEST = 56
    MANIFEST_DIGESTS = 57
    MANIFEST_WANT = 58
    MANIFEST_PART = 59
    MANIFEST_END = 60
    KEPT = 61
    BLOCKS = 62
    BLOCK_SUMS = 63
    DELTA = 64
    HOLE = 65
    LET_GO = 66
    MOVES = 67
    MOVED = 68
    COPY = 69
    COMPRESSED = 70
    FRAGMENT = 71
    FLAGS = 90
    FLAGS_TOLD = 91
    EXAMINE = 85
    EXAMINED = 86
    POINT = 96
    OBJECT = 97
    NAMES = 98
    POINT_END = 99
    POINT_DURABLE = 100
    POINT_APPLIED = 101
    POINT_REFUSED = 102
    DISTURBED = 103
    POINT_RELEASE = 104
