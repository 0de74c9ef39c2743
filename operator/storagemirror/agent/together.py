"""The source agents of one pair as a group: the lead listens, the others dial it, over the TLS of all agents.

Which agent leads, and who belongs to the group, is the operator's order. Both ends must mean the same pair, epoch and
members; else nothing comes of it until they have the same orders. What a round is: `storagemirror.sync.together`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from storagemirror.agent.context import Backoff, Context
from storagemirror.agent.listener import Listener
from storagemirror.agent.tls import names_in
from storagemirror.contract import Action, GroupOrder, Order, Peer, Role, peer_name
from storagemirror.errors import BadInput, Disconnected, StorageMirrorError
from storagemirror.sync.pointmaker.standstill import PutOff
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.together.rounds import NOT_READY, Rounds, Said
from storagemirror.sync.together.seat import Seat
from storagemirror.wire import group as g

log = logging.getLogger("storagemirror.agent")

BEAT_SECONDS, SILENCE_SECONDS = 1.0, 4.0
"""Each end says something so often; a lead that is silent for so long is given up, a member a little later."""
CONNECT_SECONDS = 5.0
_BUFFER = 64 << 10


@dataclass(frozen=True)
class _Who:
    """Under which orders this agent is in its group. Another one is another group."""

    pair_uid: str
    epoch: int
    volume: str
    instance: int
    members: tuple[str, ...]
    peer: Peer | None

    @property
    def leads(self) -> bool:
        return self.volume == self.members[0]

    def hello(self) -> g.Hello:
        return g.Hello(self.pair_uid, self.epoch, self.volume, self.instance, self.members, holds=True)

    def name_of(self, volume: str) -> str:
        return peer_name(Role.SOURCE, volume, self.pair_uid)


class _End(Protocol):
    """This agent's end of the group."""

    def say(self, message: g.Message) -> None: ...
    def close(self) -> None: ...
    @property
    def connected(self) -> bool: ...


class Together:
    """Lives as long as the agent."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._who: _Who | None = None
        self._end: _End | None = None
        self.seat = Seat(self._say, self._idle)

    def take_up(self, order: Order | None) -> None:
        """The group as the order has it now; None: none any more. For any thread."""
        who = _who(order, self._context.settings.instance)
        with self._lock:
            if who == self._who:
                return
            old, self._end, self._who = self._end, None, who
        if old is not None:
            old.close()
        self.seat.lost("the order of the group has changed")
        if who is None:
            return
        end: _End
        try:
            end = Lead(who, self._context, self.seat) if who.leads else Member(who, self._context, self.seat)
        except StorageMirrorError as e:
            log.error("no group of volumes: %s: %s", e.reason, e.message)
            with self._lock:
                self._who = None  # tried again with the next look at the order
            return
        with self._lock:
            ours = self._who == who
            if ours:
                self._end = end
        if not ours:
            end.close()
        elif isinstance(end, Lead) and (word := self.seat.word) is not None:
            end.say(word)  # a member says it as soon as it is connected

    def close(self) -> None:
        """The agent ends."""
        self.take_up(None)

    @property
    def wanted(self) -> bool:
        """Whether points are to be of one moment with those of other volumes."""
        order = self._context.orders.current()
        return order is not None and order.group is not None

    @property
    def leads(self) -> bool:
        """Whether this agent begins the rounds."""
        end = self._end
        return isinstance(end, Lead)

    @property
    def connected(self) -> bool:
        """Whether the lead is heard, or is this agent."""
        end = self._end
        return end is not None and end.connected

    @property
    def lacking(self) -> bool:
        """As the lead: whether it is not known yet what becomes of the round before, although all are there."""
        end = self._end
        return isinstance(end, Lead) and end.lacking

    def begin(self) -> None:
        """A point is due: as the lead, begin a round. It comes to the seat, also where it is void at once."""
        end = self._end
        if isinstance(end, Lead):
            end.begin()

    def missed(self) -> PutOff:
        """Why no round has begun for long."""
        with self._lock:
            who = self._who
        if who is None or not self.connected:
            lead = who.members[0] if who is not None else "?"
            return PutOff(f"the agent of volume {lead}, which leads the group, is not heard", reason=NOT_READY)
        return PutOff(f"the agent of volume {who.members[0]} has begun no round", reason=NOT_READY)

    def _say(self, message: g.Message) -> None:
        end = self._end
        if end is not None:
            end.say(message)

    def _idle(self) -> str:
        sight = self._context.view.sight
        if sight.freezing is not None and not sight.freezing.able:
            return sight.freezing.reason
        return sight.problem.reason if sight.problem is not None else str(sight.phase)


class Lead:
    """The end that decides."""

    def __init__(self, who: _Who, context: Context, seat: Seat) -> None:
        """Begins to listen; `BadInput`."""
        self._who = who
        self._clock = context.clock
        self._seat = seat
        self._lock = threading.RLock()
        """Of what follows; whatever is decided is said before it is let go of, so that all hear it in one order."""
        self._rounds = Rounds(who.members, seat.round, seat.in_hand)
        self._unsaid: deque[tuple[str, g.Message]] = deque()
        self._links: dict[str, tuple[int, _Link]] = {}
        self._closed = False
        names = [who.name_of(volume) for volume in who.members[1:]]
        self._listener = Listener(context.settings.port, context.tls, lambda: names, self._offer)
        self._listener.start()
        log.info("leading the group of volumes %s, listening on port %d", ", ".join(who.members), self._listener.port)

    @property
    def connected(self) -> bool:
        """See `Together`."""
        return True

    @property
    def lacking(self) -> bool:
        """See `Together`."""
        with self._lock:
            return bool(self._rounds.lacking) and not self._rounds.away

    def begin(self) -> None:
        """See `Together`."""
        with self._lock:
            self._tell(self._rounds.begin(self._clock.now_ns()))

    def say(self, message: g.Message) -> None:
        """Of its own seat."""
        self._heard(self._who.volume, message)

    def close(self) -> None:
        """All is let go of; a round that goes on is void."""
        with self._lock:
            self._closed = True
            links = [link for _, link in self._links.values()]
        self._listener.close()
        for link in links:
            link.close()

    def _heard(self, volume: str, message: g.Message) -> None:
        with self._lock:
            self._tell(self._rounds.heard(volume, message, self._clock.now_ns()))

    def _tell(self, said: Said) -> None:
        """In the order in which it was decided, also where a seat answers at once. Holds the lock."""
        begun = bool(self._unsaid)
        self._unsaid += said
        while self._unsaid and not begun:
            volume, message = self._unsaid[0]
            if volume == self._who.volume:
                self._seat.take(message)
            elif volume in self._links:
                self._links[volume][1].send(message)
            self._unsaid.popleft()

    def _offer(self, stream: SocketStream) -> None:
        threading.Thread(target=self._serve, args=(_Link(stream),), name="group", daemon=True).start()

    def _serve(self, link: _Link) -> None:
        volume = ""
        try:
            messages = link.messages()
            volume = self._let_in(link, next(messages))
            for message in messages:
                self._heard(volume, message)
        except (StorageMirrorError, StopIteration) as e:
            if not self._closed:
                log.info("the group lacks volume %s: %s", volume or "?", e or "it said nothing")
        finally:
            self._gone(volume, link)
            link.close()

    def _let_in(self, link: _Link, hello: g.Message) -> str:
        """The volume whose agent it is. `BadInput` where it is of another group, or outdated."""
        ours = self._who
        if not isinstance(hello, g.Hello) or link.peer != ours.name_of(hello.volume):
            raise BadInput("expected a member of the group to say who it is", reason="WrongPeer")
        if (hello.pair_uid, hello.epoch, hello.members) != (ours.pair_uid, ours.epoch, ours.members):
            raise BadInput(f"the agent of volume {hello.volume} has an order of another group", reason="OrderInvalid")
        with self._lock:
            if self._closed:
                raise Disconnected("the group has ended")
            instance, old = self._links.get(hello.volume, (0, None))
            if hello.instance < instance:
                raise BadInput(f"agent {hello.instance} of volume {hello.volume} is outdated", reason="Superseded")
            if old is not None:
                self._tell(self._rounds.gone(hello.volume))
                old.close()
            self._links[hello.volume] = (hello.instance, link)
            self._tell(self._rounds.come(hello.volume, holds=hello.holds))
        link.beat()
        log.info("the agent of volume %s has joined the group", hello.volume)
        return hello.volume

    def _gone(self, volume: str, link: _Link) -> None:
        with self._lock:
            _, current = self._links.get(volume, (0, None))
            if current is link:
                del self._links[volume]
                self._tell(self._rounds.gone(volume))


class Member:
    """The end of one that takes part: dials the lead again and again."""

    def __init__(self, who: _Who, context: Context, seat: Seat) -> None:
        self._who = who
        self._tls = context.tls
        self._seat = seat
        self._link: _Link | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="group", daemon=True).start()

    @property
    def connected(self) -> bool:
        """See `Together`."""
        return self._link is not None

    def say(self, message: g.Message) -> None:
        """To the lead, where it is there: else the round is void anyway."""
        link = self._link
        if link is not None:
            link.send(message)

    def close(self) -> None:
        """No further connection."""
        self._ended.set()
        link = self._link
        if link is not None:
            link.close()

    def _run(self) -> None:
        backoff, peer, said = Backoff(0.2, 2.0), self._who.peer, ""
        while peer is not None and not self._ended.is_set():
            try:
                link = _Link(self._dial(peer))
                self._follow(link, backoff)
                why = "it closed the connection"
            except StorageMirrorError as e:
                why = e.message
            if self._ended.is_set():
                return
            if why != said:
                log.info("the lead of the group, volume %s, is not heard: %s", self._who.members[0], why)
            said = why
            self._ended.wait(backoff.next())

    def _follow(self, link: _Link, backoff: Backoff) -> None:
        try:
            link.send(self._who.hello())
            self._link = link
            if (word := self._seat.word) is not None:
                link.send(word)  # what was said while nobody listened
            link.beat()
            for message in link.messages():
                backoff.reset()
                self._seat.take(message)
        finally:
            self._link = None
            link.close()
            self._seat.lost(f"the agent of volume {self._who.members[0]}, which leads the group, is not heard")

    def _dial(self, peer: Peer) -> SocketStream:
        try:
            raw = socket.create_connection((peer.address, peer.port), CONNECT_SECONDS)
        except OSError as e:
            raise Disconnected(f"{peer.address} port {peer.port} does not answer: {e}") from e
        try:
            secured = self._tls.connect(raw, self._who.name_of(self._who.members[0]))
        except BaseException:
            raw.close()
            raise
        return SocketStream(secured, silence=SILENCE_SECONDS)


class _Link:
    """One connection between two agents of a group."""

    def __init__(self, stream: SocketStream) -> None:
        names = names_in(stream.certificate())
        self.peer = names[0] if names else ""
        """The one name in the other's certificate."""
        self._stream = stream
        self._parser = g.Parser()
        self._sending = threading.Lock()
        self._ended = threading.Event()

    def send(self, message: g.Message) -> None:
        """Whoever receives notices when the connection has gone."""
        with self._sending, contextlib.suppress(Disconnected):
            self._stream.send(g.encode(message))

    def beat(self) -> None:
        """Be heard from now on."""
        threading.Thread(target=self._beat, name="group-beat", daemon=True).start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.send(g.Alive())

    def messages(self) -> Iterator[g.Message]:
        """As they come, until the other end closes; `Disconnected`, `ProtocolError`."""
        buffer = memoryview(bytearray(_BUFFER))
        while got := self._stream.receive_into(buffer):
            yield from self._parser.feed(buffer[:got])

    def close(self) -> None:
        """For any thread."""
        self._ended.set()
        self._stream.close()


def _who(order: Order | None, instance: int) -> _Who | None:
    """None where the order means no group, or another agent."""
    group: GroupOrder | None = order.group if order is not None else None
    if order is None or group is None or order.action is not Action.RUN or order.instance != instance:
        return None
    if order.volume not in group.members or not 1 < len(group.members) <= g.MEMBERS:
        return None
    leads = order.volume == group.members[0]
    peer = None if leads else group.peer
    return _Who(order.pair_uid, order.epoch, order.volume, order.instance, group.members, peer)
