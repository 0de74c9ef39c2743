"""The catalogue of reasons: every word that stands in a condition or an event, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Reason(StrEnum):
    """Reasons of conditions and events. Agents and errors carry them as plain words; they are all listed here."""

    # going well, or going on by itself
    REPLICATING = "Replicating"
    MIRRORING = "Mirroring"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"
    STARTING = "Starting"
    AGENTS_STARTING = "AgentsStarting"
    AGENTS_RUNNING = "AgentsRunning"
    CLAIMS_BOUND = "ClaimsBound"
    WAITING_FOR_FIRST_CONSUMER = "WaitingForFirstConsumer"
    PROGRESSING = "Progressing"
    SETTLED = "Settled"
    NOTHING_HELD = "NothingHeld"
    NOTHING_LOST = "NothingLost"
    DIFFERENT_NODES = "DifferentNodes"
    PAUSED = "Paused"
    DELETING = "Deleting"
    CONFIRMED = "Confirmed"
    CLAIM_CREATED = "ClaimCreated"
    AGENT_CREATED = "AgentCreated"
    AGENT_REPLACED = "AgentReplaced"
    MIRROR_COMPLETED = "MirrorCompleted"

    # claims
    CLAIM_MISSING = "ClaimMissing"
    CLAIM_UNBOUND = "ClaimUnbound"
    CLAIM_LOST = "ClaimLost"
    CLAIM_DELETING = "ClaimDeleting"
    ACCESS_MODE_UNSUPPORTED = "AccessModeUnsupported"
    VOLUME_MODE_UNSUPPORTED = "VolumeModeUnsupported"
    SAME_CLAIM = "SameClaim"
    TARGET_CLAIM_TAKEN = "TargetClaimTaken"
    MIRROR_LOOP = "MirrorLoop"
    TARGET_IN_USE = "TargetInUse"
    WRITERS_ON_SEVERAL_NODES = "WritersOnSeveralNodes"
    CLAIM_REFUSED = "ClaimRefused"
    TARGET_SMALLER = "TargetSmaller"

    # agents
    POD_SECURITY_REFUSED = "PodSecurityRefused"
    QUOTA_EXCEEDED = "QuotaExceeded"
    LIMIT_RANGE_REFUSED = "LimitRangeRefused"
    ADMISSION_REFUSED = "AdmissionRefused"
    FORBIDDEN = "Forbidden"
    AGENT_UNSCHEDULABLE = "AgentUnschedulable"
    AGENT_NOT_STARTING = "AgentNotStarting"
    IMAGE_NOT_PULLED = "ImageNotPulled"
    AGENT_CRASHED = "AgentCrashed"
    AGENT_SILENT = "AgentSilent"
    NODE_NOT_READY = "NodeNotReady"
    OLD_AGENT_NOT_GONE = "OldAgentNotGone"
    WRITER_ON_ANOTHER_NODE = "WriterOnAnotherNode"
    SAME_NODE = "SameNode"

    # between the agents
    DISCONNECTED = "Disconnected"
    PEER_TOO_OLD = "PeerTooOld"
    TERMS_DIFFER = "TermsDiffer"
    PROTOCOL_ERROR = "ProtocolError"
    REFUSED = "Refused"
    EPOCH_TOO_OLD = "EpochTooOld"
    SUPERSEDED = "Superseded"
    WRONG_PEER = "WrongPeer"
    NO_SERVER = "NoServer"
    NO_SUCH_HOST = "NoSuchHost"
    CERTIFICATE_NOT_TRUSTED = "CertificateNotTrusted"
    PEER_NOT_TRUSTED = "PeerNotTrusted"
    CERTIFICATE_UNUSABLE = "CertificateUnusable"
    ORDER_INVALID = "OrderInvalid"
    RULE_INVALID = "RuleInvalid"
    PEER_FAILED = "PeerFailed"
    PORT_TAKEN = "PortTaken"
    ENTRIES_FAILED = "EntriesFailed"

    # volumes
    TARGET_FULL = "TargetFull"
    TARGET_NOT_EMPTY = "TargetNotEmpty"
    TARGET_OWNED_BY_ANOTHER = "TargetOwnedByAnother"
    TARGET_NOT_WRITABLE = "TargetNotWritable"
    TARGET_READ_ONLY = "TargetReadOnly"
    TARGET_BUSY = "TargetBusy"
    TARGET_UNUSABLE = "TargetUnusable"
    TARGET_FAILING = "TargetFailing"
    TARGET_IN_DOUBT = "TargetInDoubt"
    TARGET_NOT_MIRRORED = "TargetNotMirrored"
    MANIFEST_MISSING = "ManifestMissing"
    NOT_KEPT_ASIDE = "NotKeptAside"
    SOURCE_NOT_PROMOTED = "SourceNotPromoted"
    SOURCE_UNREADABLE = "SourceUnreadable"
    SOURCE_NOT_READABLE = "SourceNotReadable"
    SOURCE_UNMOUNTED = "SourceUnmounted"
    PRIVILEGE_NOT_ASKED = "PrivilegeNotAsked"
    NAMESPACE_DOES_NOT_ALLOW = "NamespaceDoesNotAllow"
    FILESYSTEM_SHARED = "FilesystemShared"
    FILESYSTEM_CANNOT_FREEZE = "FilesystemCannotFreeze"
    FREEZE_NOT_PERMITTED = "FreezeNotPermitted"
    GUARD_NOT_READY = "GuardNotReady"
    FROZEN_BY_ANOTHER = "FrozenByAnother"
    FREEZE_FAILED = "FreezeFailed"
    FREEZE_TOO_SLOW = "FreezeTooSlow"
    GUARD_BUSY = "GuardBusy"
    NOT_FROZEN = "NotFrozen"
    CANNOT_FREEZE = "CannotFreeze"
    FREEZE_LOST = "FreezeLost"
    THAWED_BY_ANOTHER = "ThawedByAnother"
    DEADLINE_PASSED = "DeadlinePassed"
    GUARD_GONE = "GuardGone"
    THAW_FAILED = "ThawFailed"
    NO_POINTS = "NoPoints"
    POINTS_MADE = "PointsMade"
    POINTS_NOT_WHOLE = "PointsNotWhole"
    AT_POINT = "AtPoint"
    NO_POINT = "NoPoint"
    BETWEEN_POINTS = "BetweenPoints"
    SYNC_FAILED = "SyncFailed"
    JOURNAL_DAMAGED = "JournalDamaged"
    AT_NO_POINT = "AtNoPoint"
    POINTS_DIFFER = "PointsDiffer"
    GROUP_NOT_READY = "GroupNotReady"
    GROUP_VOID = "GroupVoid"
    PUT_OFF = "PutOff"
    SYNC_TOO_SLOW = "SyncTooSlow"
    TOO_MUCH_TO_READ = "TooMuchToRead"
    POINT_CONFLICT = "PointConflict"
    POINT_REFUSED = "PointRefused"
    VOLUME_UNUSABLE = "VolumeUnusable"
    NOT_EVERYTHING_KEPT = "NotEverythingKept"
    WAITING_FOR_SCHEDULE = "WaitingForSchedule"
    WAITING_FOR_TRIGGER = "WaitingForTrigger"
    RUN_BEGUN = "RunBegun"
    RUN_COMPLETED = "RunCompleted"
    RUN_INCOMPLETE = "RunIncomplete"
    RUN_WAITS = "RunWaits"
    SCHEDULE_INVALID = "ScheduleInvalid"
    SOURCE_CHANGED_UNSEEN = "SourceChangedUnseen"
    EVERYTHING_SEEN = "EverythingSeen"
    SOURCE_UNWATCHED = "SourceUnwatched"
    TARGET_CHANGED = "TargetChanged"
    TARGET_UNCHANGED = "TargetUnchanged"
    TARGET_UNWATCHED = "TargetUnwatched"
    QUEUE_FILLING = "QueueFilling"
    QUEUE_OVERFLOWED = "QueueOverflowed"
    QUEUE_BELOW_ALERT = "QueueBelowAlert"
    QUEUE_FULL = "QueueFull"
    QUEUE_LOST = "QueueLost"
    VERIFIED_EQUAL = "VerifiedEqual"
    NOT_VERIFIED_YET = "NotVerifiedYet"
    DIFFERENCES_FOUND = "DifferencesFound"
    DIFFERENCES_REPAIRED = "DifferencesRepaired"
    VERIFY_FAILED = "VerifyFailed"
    WATCH_LIMIT = "WatchLimit"
    CHANGED = "Changed"

    # why the kernel's trace cannot be had
    TRACE_UNAVAILABLE = "TraceUnavailable"
    NO_TRACE_PRIVILEGE = "NoTracePrivilege"
    NO_TRACEFS = "NoTracefs"
    KERNEL_LOCKDOWN = "KernelLockdown"
    FILE_SYSTEM_UNTRACED = "FileSystemUntraced"
    DIRECT_ACCESS = "DirectAccess"
    SEVERAL_SUBVOLUMES = "SeveralSubvolumes"
    DEVICE_NOT_FOUND = "DeviceNotFound"
    EVENTS_MISSING = "EventsMissing"
    TRACER_NOT_READY = "TracerNotReady"
    TRACE_UNPROVEN = "TraceUnproven"
    TRACE_LOST = "TraceLost"
    TRACE_BROKEN = "TraceBroken"

    # holds
    HELD = "Held"
    MASS_DELETE = "MassDelete"
    SOURCE_REPLACED = "SourceReplaced"

    # failover
    SOURCE_RETURNED = "SourceReturned"
    FAILOVER_BEGUN = "FailoverBegun"
    FAILOVER_COMPLETED = "FailoverCompleted"
    ROLLED_BACK = "RolledBack"
    FAILING_OVER = "FailingOver"
    FAILED_OVER = "FailedOver"
    WAITING = "Waiting"
    ANOTHER_RUNS = "AnotherRuns"
    AWAITING_APPROVAL = "AwaitingApproval"
    PAIR_MISSING = "PairMissing"
    NO_SIDES = "NoSides"
    PAST_EPOCH = "PastEpoch"
    NOT_MIRRORED = "NotMirrored"
    TARGET_NOT_HEARD = "TargetNotHeard"
    TARGET_BEHIND = "TargetBehind"
    LAG_UNKNOWN = "LagUnknown"
    SOURCE_NOT_HEARD = "SourceNotHeard"
    NO_PROOF = "NoProof"
    WRITERS_UNKNOWN = "WritersUnknown"
    WRITERS_RUNNING = "WritersRunning"
    GATE_NOT_IN_FORCE = "GateNotInForce"
    WORKLOAD_MISSING = "WorkloadMissing"
    STANDBY_MISMATCH = "StandbyMismatch"
    SERVICE_NOT_OURS = "ServiceNotOurs"
    SERVICE_MISSING = "ServiceMissing"
    SERVICE_UNSAFE = "ServiceUnsafe"
    SERVICE_AMBIGUOUS = "ServiceAmbiguous"
    SERVICE_HEADLESS = "ServiceHeadless"
    SERVICES_TURNED = "ServicesTurned"
    SERVICE_REFUSED = "ServiceRefused"
    STANDBY_NOT_READY = "StandbyNotReady"
    PROVING = "Proving"
    FENCING = "Fencing"
    DRAINING = "Draining"
    PROMOTING = "Promoting"
    SWITCHING = "Switching"
    VERIFYING = "Verifying"
    ROLLING_BACK = "RollingBack"
    TIMED_OUT = "TimedOut"
    CANCELLED = "Cancelled"
    WRITERS_TRACKED = "WritersTracked"
    COPY_READY = "CopyReady"
    REFUSED_LOSS = "RefusedLoss"

    # restore
    RESTORE_BEGUN = "RestoreBegun"
    RESTORE_COMPLETED = "RestoreCompleted"
    RESTORING = "Restoring"
    KEEPING = "Keeping"
    AWAITING_CUT_OVER = "AwaitingCutOver"
    SIDE_IS_LIVE = "SideIsLive"
    LIVE_SIDE_NOT_HEARD = "LiveSideNotHeard"
    HOME_NOT_HEARD = "HomeNotHeard"
    OLD_SIDE_IN_USE = "OldSideInUse"
    VOLUME_UNKNOWN = "VolumeUnknown"
    CLAIM_TAKEN = "ClaimTaken"
    HOME_MISMATCH = "HomeMismatch"

    # the API server
    API_UNAVAILABLE = "ApiUnavailable"
    API_REFUSED = "ApiRefused"
    CONFLICT = "Conflict"
    MISSING = "Missing"
    DENIED = "Denied"
    WATCH_EXPIRED = "WatchExpired"

    # the rest
    STALE = "Stale"
    RETRYING = "Retrying"
    BAD_INPUT = "BadInput"
    FAILED = "Failed"
    UNKNOWN = "Unknown"
    INTERNAL_ERROR = "InternalError"


_CONFIRM = (
    "If this is what you want, copy the token from status.volumes[].hold.token to spec.mirror.confirm; "
    "else put the source right, and it goes on by itself."
)
_NO_POINT = (
    "With the source at work the copy is a point again by itself, after a mirror; a Failover promotes it as it is with "
    "spec.acceptLoss.noPoint."
)
_UNREADABLE = "Let the agent's user read the source, or set spec.agents.privilege to Baseline."

HINTS: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.PAUSED: "Set spec.paused to false to go on.",
        Reason.CLAIM_MISSING: "Create it; for a target you may give spec.volumes[].target.claimTemplate instead.",
        Reason.CLAIM_UNBOUND: "See `kubectl describe pvc` for what the storage is waiting for.",
        Reason.CLAIM_LOST: "Its volume is gone: restore the claim from a backup, or make it anew.",
        Reason.CLAIM_DELETING: "It is about to vanish. Remove the volume from the pair, or make the claim again.",
        Reason.ACCESS_MODE_UNSUPPORTED: "Use a claim with ReadWriteOnce or ReadWriteMany: a ReadWriteOncePod claim "
        "cannot be mounted by an agent beside the application.",
        Reason.VOLUME_MODE_UNSUPPORTED: "Use a claim with volumeMode Filesystem.",
        Reason.SAME_CLAIM: "Name two different claims.",
        Reason.TARGET_CLAIM_TAKEN: "Name another target claim, or delete one of the two pairs; the older pair goes on.",
        Reason.MIRROR_LOOP: "Two sides cannot be each other's copy. To mirror the other way round, delete the older "
        "pair first, once the application writes on the other side.",
        Reason.TARGET_IN_USE: "Stop the pod that mounts the target claim: what it writes would be overwritten.",
        Reason.WRITERS_ON_SEVERAL_NODES: "What the other nodes write is copied only by the full comparison every ten "
        "minutes, and syncedThrough does not cover it until then: keep the writers on one node.",
        Reason.CLAIM_REFUSED: "Change spec.volumes[].target.claimTemplate, or the quota or policy that refused it.",
        Reason.TARGET_SMALLER: "Nothing is lost while the data fits. Grow the target claim before the source fills.",
        Reason.POD_SECURITY_REFUSED: "Allow the PodSecurity level baseline in this namespace "
        "(label pod-security.kubernetes.io/enforce: baseline; privileged, for spec.agents.privilege Freeze), or set "
        "spec.agents.privilege to Restricted.",
        Reason.QUOTA_EXCEEDED: "Raise the namespace's ResourceQuota, or lower spec.agents.resources.",
        Reason.LIMIT_RANGE_REFUSED: "Bring spec.agents.resources within the namespace's LimitRange.",
        Reason.ADMISSION_REFUSED: "See the message for the policy that refused the agent's pod.",
        Reason.FORBIDDEN: "Give the operator's service account the rights of the chart's ClusterRole.",
        Reason.AGENT_UNSCHEDULABLE: "See the message for what no node offers; spec.agents sets resources and "
        "tolerations.",
        Reason.AGENT_NOT_STARTING: "See `kubectl describe pod` of the agent for what it is waiting for.",
        Reason.IMAGE_NOT_PULLED: "Make the image reachable, or name a pull secret in spec.agents.imagePullSecrets.",
        Reason.AGENT_CRASHED: "It is started again by itself. See `kubectl logs --previous` of the agent; if it was "
        "killed for memory, raise spec.agents.resources.limits.memory.",
        Reason.AGENT_SILENT: "See whether its node is Ready; it is replaced by itself once that is safe.",
        Reason.NODE_NOT_READY: "It goes on by itself when the node is back.",
        Reason.OLD_AGENT_NOT_GONE: "A new agent starts only when the old one is known to have ended: bring its node "
        "back.",
        Reason.WRITER_ON_ANOTHER_NODE: "It moves to the application's node by itself.",
        Reason.SAME_NODE: "Both sides die with this node. Put the target on a volume that is elsewhere.",
        Reason.DISCONNECTED: "See whether the nodes reach each other and a NetworkPolicy allows TCP 7460 from the "
        "source agent to the target agent; it goes on by itself.",
        Reason.TERMS_DIFFER: "Passes by itself when both agents have their new orders.",
        Reason.RULE_INVALID: "Correct spec.mirror.rules: the patterns are those of .gitignore.",
        Reason.PEER_TOO_OLD: "The agents are of different releases; the older one is replaced by itself.",
        Reason.PROTOCOL_ERROR: "The agents do not understand each other; report it with both agents' logs.",
        Reason.REFUSED: "See the message for what the other side refused.",
        Reason.EPOCH_TOO_OLD: "The target belongs to a later epoch: this side is not the live one any more.",
        Reason.SUPERSEDED: "A newer agent has taken over; nothing to do.",
        Reason.WRONG_PEER: "The certificate was for another agent; it is issued again by itself.",
        Reason.PEER_NOT_TRUSTED: "Compare the nodes' clocks; both agents need a certificate of the same operator.",
        Reason.CERTIFICATE_UNUSABLE: "Delete the agent's Secret: the operator issues another.",
        Reason.ORDER_INVALID: "It is written again by itself; if it stays, operator and agent are too far apart.",
        Reason.PEER_FAILED: "See the log of the other agent; it is tried again by itself.",
        Reason.PORT_TAKEN: "Delete the agent's pod: another one starts.",
        Reason.ENTRIES_FAILED: "See the message for the first of them; all are tried again by themselves.",
        Reason.TARGET_FULL: "Grow the target claim, or free space on the source; it goes on by itself.",
        Reason.TARGET_NOT_EMPTY: "Name an empty target, or set spec.mirror.target to Adopt to have what is there made "
        "equal to the source (what the source does not have is deleted).",
        Reason.TARGET_OWNED_BY_ANOTHER: "It holds the copy of another pair. Name another target; or, if that pair is "
        "gone, set spec.mirror.target to Adopt.",
        Reason.TARGET_NOT_WRITABLE: "Let the agent's user write the target, or set spec.agents.privilege to Baseline.",
        Reason.TARGET_READ_ONLY: "The target is mounted read-only: see the node's kernel log for errors of the disk.",
        Reason.TARGET_BUSY: "An agent that is being replaced lets go by itself. Two pairs must not share a target.",
        Reason.TARGET_UNUSABLE: "See the message; if nothing on the target is needed, empty it.",
        Reason.MANIFEST_MISSING: "Nothing need be done: the next restore keeps aside everything on the old side that "
        "differs from the live side.",
        Reason.NOT_KEPT_ASIDE: "Look at the entry that the message names (immutable? another file system?), and move "
        "it away by hand. Nothing was overwritten.",
        Reason.SOURCE_NOT_PROMOTED: "See whether the right volume is mounted on the live side.",
        Reason.TARGET_IN_DOUBT: "Let the application check its data when it starts on the copy; the next full mirror "
        "would find and mend what is damaged.",
        Reason.TARGET_NOT_MIRRORED: "Nothing was ever copied to this claim: it cannot become the live side.",
        Reason.TARGET_FAILING: "See the node's kernel log for errors of the target's disk.",
        Reason.SOURCE_UNREADABLE: _UNREADABLE,
        Reason.SOURCE_NOT_READABLE: _UNREADABLE,
        Reason.SOURCE_UNMOUNTED: "Mount the volume again; the copy is left as it is until then.",
        Reason.PRIVILEGE_NOT_ASKED: "Set spec.agents.privilege to Freeze to have points in time made.",
        Reason.NAMESPACE_DOES_NOT_ALLOW: "An administrator allows it with `kubectl annotate namespace NAME "
        "storagemirror.io/privileged-agents=true`: whoever may create pairs or enter pods there could then freeze and "
        "mount on the node.",
        Reason.FILESYSTEM_SHARED: "Use a claim whose volume is a file system of its own, as on a block device.",
        Reason.FILESYSTEM_CANNOT_FREEZE: "Use a claim on a block device with ext4, XFS or btrfs.",
        Reason.FREEZE_NOT_PERMITTED: "Something takes CAP_SYS_ADMIN from the guards: SELinux, a policy, or user "
        "namespaces.",
        Reason.GUARD_NOT_READY: "See `kubectl logs POD -c guard-1` and `-c guard-2` of the source's agent.",
        Reason.NO_POINTS: "Set spec.replication.consistency to Point; see status.volumes[].points for why one was put "
        "off.",
        Reason.POINTS_NOT_WHOLE: "Files are written through memory maps or libaio in a volume of many files, which "
        "inotify does not tell; see docs/consistency.md.",
        Reason.NO_POINT: f"The condition CrashConsistent says why none was made. {_NO_POINT}",
        Reason.BETWEEN_POINTS: f"It goes on by itself when what hinders the target's agent is gone. {_NO_POINT}",
        Reason.SYNC_FAILED: f"See the node's kernel log for errors of the target's disk. {_NO_POINT}",
        Reason.JOURNAL_DAMAGED: f"See the node's kernel log for errors of the target's disk. {_NO_POINT}",
        Reason.AT_NO_POINT: _NO_POINT,
        Reason.POINTS_DIFFER: "With the source at work the next point of all volumes makes them one by itself, and "
        "status.volumes[].points.why says what keeps it; a Failover promotes them as they are with "
        "spec.acceptLoss.noPoint.",
        Reason.FROZEN_BY_ANOTHER: "It goes on by itself when that tool thaws the volume.",
        Reason.VOLUME_UNUSABLE: "See the message for what is wrong with the volume.",
        Reason.NOT_EVERYTHING_KEPT: "See status.volumes[].notKept; spec.agents.privilege Baseline keeps the most.",
        Reason.DIFFERENCES_FOUND: "See status.volumes[].verify for the first names; spec.verify.repair: true and a new "
        "spec.verify.request send them again. Content that changes under an equal size and time is damage, or a tool "
        "that hides what it writes: look for its cause.",
        Reason.DIFFERENCES_REPAIRED: "They are equal now. Content that changed under an equal size and time is damage, "
        "or a tool that hides what it writes: look for its cause.",
        Reason.QUEUE_FILLING: "The target takes less than the source changes, or is away: look at Connected, the "
        "target's disk and spec.transfer.bandwidth. spec.replication.queue sets the limits.",
        Reason.QUEUE_OVERFLOWED: "Both sides are compared as soon as the target takes it, and the copy follows again; "
        "nothing is to be done. A larger spec.replication.queue.memory holds more names.",
        Reason.QUEUE_FULL: "A larger spec.replication.queue.memory or disk holds more. Look at the disk of the "
        "source's node, too.",
        Reason.QUEUE_LOST: "What was queued is read anew. Look at the disk of the source's node.",
        Reason.SOURCE_UNWATCHED: "The copy follows all the same, later and at a higher cost; with more watches it is "
        "as it was once the source's agent is started anew.",
        Reason.SOURCE_CHANGED_UNSEEN: "They were sent. Who writes through memory maps or libaio in a volume of many "
        "files is found late; docs/capture.md says how late. Where nobody does, it is a defect of ours: tell us.",
        Reason.TARGET_CHANGED: "The copy is made equal to the source again. Look for who writes it: a pod that mounts "
        "the target claim, or somebody on its node.",
        Reason.TARGET_UNWATCHED: "WatchLimit: raise fs.inotify.max_user_watches and max_user_instances on the target's "
        "node. A verification finds what was changed.",
        Reason.SCHEDULE_INVALID: "Correct spec.replication.schedule or timeZone; no run begins until then. Five "
        "fields: minute, hour, day of the month, month, day of the week.",
        Reason.RUN_INCOMPLETE: "See status.volumes[].run.message; the next run tries it again.",
        Reason.RUN_WAITS: "It is done as soon as what is in the way is gone.",
        Reason.VERIFY_FAILED: "See the message, and status.volumes[].verify.",
        Reason.HELD: _CONFIRM,
        Reason.MASS_DELETE: _CONFIRM,
        Reason.SOURCE_REPLACED: _CONFIRM,
        Reason.AWAITING_APPROVAL: "To go on: `kubectl patch failover NAME --type=merge -p "
        '\'{"spec":{"approved":true,"approvedBy":"YOUR USER NAME"}}\'`; `kubectl auth whoami` tells your name.',
        Reason.PAIR_MISSING: "Correct spec.pairName: make another one that names a MirrorPair of this namespace.",
        Reason.NO_SIDES: "Name the workloads of both sides in spec.sides of the MirrorPair.",
        Reason.PAST_EPOCH: "Nothing was done. Make another one with the pair's present status.epoch in fromEpoch.",
        Reason.NOT_MIRRORED: "Wait until the pair is Ready: a copy that was never whole is not promoted.",
        Reason.TARGET_NOT_HEARD: "The copy's agent must run to hand the volume over: see its pod and its node.",
        Reason.TARGET_BEHIND: "Set spec.acceptLoss.seconds of the Failover to lose that much, or bring the source "
        "back.",
        Reason.LAG_UNKNOWN: "Set spec.acceptLoss.unknown of the Failover to go on all the same, or bring the source "
        "back.",
        Reason.REFUSED_LOSS: "Raise spec.acceptLoss.bytes of the Failover, or bring the source back.",
        Reason.SOURCE_NOT_HEARD: "A planned failover needs the source's agent: wait until it is back, or make an "
        "Unplanned one.",
        Reason.NO_PROOF: "Bring the node back; or, when you know that it is off, give it the taint "
        "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute and list Attested in "
        "spec.failover.sufficientProof; or, for a Failover, take the risk with its spec.acceptSplitBrain.",
        Reason.WRITERS_RUNNING: "It goes on by itself when their kubelets report them ended. Delete those that no "
        "workload of the source side owns (a debug pod).",
        Reason.WRITERS_UNKNOWN: "It is known once every node that could hold the volumes was Ready at the same time.",
        Reason.GATE_NOT_IN_FORCE: "Install the chart with gate.enabled=true; `kubectl get "
        "validatingadmissionpolicies,validatingadmissionpolicybindings` shows it.",
        Reason.WORKLOAD_MISSING: "Make it, or correct spec.sides.",
        Reason.STANDBY_MISMATCH: "Let the standby's pods mount the target claims (and the application's the source "
        "claims).",
        Reason.SERVICE_NOT_OURS: "Delete that Service, name another one, or use strategy Label.",
        Reason.SERVICE_MISSING: "With strategy Label the Service is yours: make it, with the selector "
        "storagemirror.io/live: PAIR.",
        Reason.SERVICE_UNSAFE: "Correct the Service as the message says.",
        Reason.SERVICE_AMBIGUOUS: "Give the pods of the two sides different labels: a Service must tell them apart.",
        Reason.SERVICE_HEADLESS: "Clients that keep an address from DNS find the other side only when they look again.",
        Reason.SERVICE_REFUSED: "See the message for what the API server refused.",
        Reason.STANDBY_NOT_READY: "See the standby's pods (`kubectl describe pod`); it goes on by itself when they are "
        "Ready. The copy is the live side already: there is no way back to the source but a restore.",
        Reason.TIMED_OUT: "Nothing is lost: the live side is the one of before. See the timeline for what it waited "
        "for.",
        Reason.AWAITING_CUT_OVER: "To go on: `kubectl patch restore NAME --type=merge -p "
        '\'{"spec":{"approved":true,"approvedBy":"YOUR USER NAME"}}\'`; `kubectl auth whoami` tells your name.',
        Reason.SIDE_IS_LIVE: "Nothing was done: the application lives on the source already.",
        Reason.LIVE_SIDE_NOT_HEARD: "It goes on by itself when the live side's node and agent are back: everything is "
        "on the live side's volume.",
        Reason.HOME_NOT_HEARD: "Bring the node of the source claim back; it goes on by itself.",
        Reason.OLD_SIDE_IN_USE: "It goes on by itself when their kubelets report them ended, or once their node has "
        "been Ready for two minutes. Delete what no workload owns (a debug pod).",
        Reason.VOLUME_UNKNOWN: "Make another Restore; spec.to.volumes[].name is a name in spec.volumes of the pair.",
        Reason.CLAIM_TAKEN: "Make another Restore that names a claim of its own.",
        Reason.HOME_MISMATCH: "Let the application's pods mount the source claims.",
        Reason.WATCH_LIMIT: "Raise fs.inotify.max_user_watches and max_user_instances on the node (sysctl); until "
        "then the whole volume is compared again and again.",
        Reason.TRACER_NOT_READY: "See `kubectl logs POD -c tracer` of the source's agent.",
        Reason.NO_TRACE_PRIVILEGE: "The trace takes root, CAP_SYS_ADMIN and no AppArmor profile that forbids mounting.",
        Reason.DIRECT_ACCESS: "Mount the file system with dax=never.",
        Reason.SEVERAL_SUBVOLUMES: "Remove the subvolumes and snapshots beside the mounted one.",
        Reason.API_REFUSED: "See the message for what the API server refused to the agent.",
        Reason.DENIED: "See the message for what the API server refused to the operator.",
        Reason.API_UNAVAILABLE: "Replication goes on; the status catches up by itself.",
        Reason.BAD_INPUT: "Correct what the message names.",
        Reason.INTERNAL_ERROR: "Report it with the operator's log.",
    }
)
"""What a person can do about it. A reason that is not here needs nothing to be done."""


def hint(reason: Reason | str) -> str:
    """What a person can do about `reason`; empty when there is nothing to do or the reason is not known."""
    try:
        return HINTS.get(Reason(reason), "")
    except ValueError:
        return ""


def advised(message: str, reason: Reason | str, own: str = "") -> str:
    """`message` and what to do: the catalogue's advice for `reason`, which speaks of Kubernetes; where it has none,
    `own`. Nothing is said twice."""
    advice = hint(reason) or own
    text = message.rstrip()
    if not advice or advice in text:
        return text
    if not text:
        return advice
    return f"{text}{'' if text[-1] in '.!?' else '.'} {advice}"
