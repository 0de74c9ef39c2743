"""A volume that was the live side, its copy that is now, and what comes of bringing it home."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storagemirror.fs.kept import Record, read_record
from storagemirror.fs.target import TargetVolume
from tests.support import trees
from tests.support.engine import homeward, joined, mirror, promote


@dataclass(frozen=True)
class Sides:
    """`home` was the live side up to epoch 2, `live` is since."""

    home: Path
    live: Path

    def keep(self, attempt: int = 1, epoch: int = 2) -> Record:
        """One session that keeps aside, and no more."""
        with joined(self.live, self.home, homeward(epoch, attempt), epoch=epoch) as pair:
            pass
        assert not pair.failure, pair.failure
        return self.record(epoch)

    def restore(self, attempt: int = 1, epoch: int = 2) -> Record:
        """One session that keeps aside and mirrors."""
        with joined(self.live, self.home, homeward(epoch, attempt), epoch=epoch) as pair:
            pair.source.mark(pair.mirror().started_ns)
        assert not pair.failure, pair.failure
        return self.record(epoch)

    def record(self, epoch: int = 2) -> Record:
        """What home says was kept."""
        with TargetVolume.open(str(self.home)) as volume:
            fd = volume.open_state()
            assert fd is not None
            found = read_record(fd, epoch)
        assert found is not None
        return found

    @property
    def aside(self) -> Path:
        """Where it lies."""
        return self.home / ".storagemirror/diverged/2"

    def differences(self) -> list[str]:
        """Between the two, as the engine's tests judge it."""
        return trees.differences(self.live, self.home)


def parted(directory: Path) -> Sides:
    """Mirror `directory/home`, whatever is in it, and make the copy the live side."""
    sides = Sides(directory / "home", directory / "live")
    with suppress(FileExistsError):
        sides.home.mkdir()
    sides.live.mkdir()
    mirror(sides.home, sides.live)
    promote(sides.live)
    return sides
