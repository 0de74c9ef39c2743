"""Bringing a cluster up, from whatever there is, and taking it down."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

from tests.cluster.cgroups import Cgroups
from tests.cluster.command import say
from tests.cluster.control_plane import ControlPlane, free_port
from tests.cluster.faults import Faults, Slowness
from tests.cluster.images import ensure_pause, keep_archive, read_archive
from tests.cluster.layout import CONTROL_PLANE, Layout
from tests.cluster.lock import cluster_lock
from tests.cluster.network import Lan
from tests.cluster.nodes import Nodes
from tests.cluster.packages import NEEDED, ensure_packages
from tests.cluster.pki import write_private
from tests.cluster.recovery import Found, Phase, Plan, Record, decide, format_record, names
from tests.cluster.teardown import look, tear_down
from tests.cluster.tools import NEEDED_FOR_UP, ensure_tools, hyperkube_key

INOTIFY_INSTANCES = 1024


class Lifecycle:
    """The beginning and the end of one cluster."""

    def __init__(
        self, layout: Layout, cgroups: Cgroups, lan: Lan, control_plane: ControlPlane, nodes: Nodes, faults: Faults
    ) -> None:
        self._layout = layout
        self._cgroups = cgroups
        self._lan = lan
        self._control_plane = control_plane
        self._nodes = nodes
        self._faults = faults

    def up(self, wanted: int | None) -> None:
        """See `Cluster.up`."""
        ensure_packages(NEEDED)
        ensure_tools(NEEDED_FOR_UP)
        ensure_pause()
        with cluster_lock(self._layout):
            started = time.monotonic()
            plan = decide(self._found(), hyperkube_key(), wanted)
            if plan.why:
                say(plan.why)
            if plan.tear_down:
                tear_down(self._layout, self._cgroups)
            self._carry_out(plan)
            took = time.monotonic() - started
        say(f"cluster {self._layout.prefix}: {plan.nodes} nodes Ready after {took:.1f} s")
        say(f"export KUBECONFIG={self._layout.kubeconfig}")

    def down(self) -> None:
        """See `Cluster.down`."""
        with cluster_lock(self._layout, for_removal=True):
            tear_down(self._layout, self._cgroups)

    def _found(self) -> Found:
        record = self._nodes.written()
        if record is None:
            leftovers = bool(look(self._layout, self._cgroups))
            return Found(None, leftovers, False, False, frozenset(), frozenset())
        handles = [self._layout.netns(who) for who in ("lan", CONTROL_PLANE, *names(record.nodes))]
        network = all(os.path.ismount(handle) for handle in handles)
        whos = (CONTROL_PLANE, *names(record.nodes)) if network else ()
        return Found(
            record=record,
            leftovers=True,
            network=network,
            control_plane=network and self._control_plane.running() and self._control_plane.ready(),
            running=frozenset(name for name in names(record.nodes) if self._nodes.make(name).running()),
            plugged=frozenset(who for who in whos if self._lan.cable_plugged(who)),
            slowed=self._faults.slowed(),
        )

    def _carry_out(self, plan: Plan) -> None:
        """Write down what is begun before it is begun, and that it is done when it is."""
        old = self._nodes.written()
        port = old.api_port if old else free_port()
        if old is None:
            self._layout.images.mkdir(parents=True)
            self._write(Record(hyperkube_key(), plan.nodes, port, Phase.MAKING))
            keep_archive(read_archive(ensure_pause()), self._layout.images)
            _allow_inotify()
            self._lan.make()
            self._control_plane.prepare(port)
        for who in plan.plug:
            self._lan.set_cable(who, plugged=True)
        for who in plan.quicken:
            self._faults.slow(who, Slowness())
        if plan.start_control_plane:
            self._control_plane.start(port)
        since = dt.datetime.now(dt.UTC)
        for name in plan.boot:
            self._nodes.start(self._nodes.make(name))
        self._nodes.wait_ready(list(plan.boot), since, 120)
        self._nodes.wait_all_ready(plan.nodes, 90)
        self._write(Record(hyperkube_key(), plan.nodes, port, Phase.UP))

    def _write(self, record: Record) -> None:
        write_private(self._layout.record, format_record(record))


def _allow_inotify() -> None:
    """Kubelets, containerds and agents of several nodes share one kernel's limit, of 128 by default. It stays raised
    after `down`: another cluster may need it."""
    setting = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(setting.read_text()) < INOTIFY_INSTANCES:
        say(f"raising {setting} to {INOTIFY_INSTANCES}: the nodes share one kernel")
        setting.write_text(str(INOTIFY_INSTANCES))
