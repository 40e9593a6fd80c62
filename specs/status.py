"""Status: a cache that people and programs read. The words here are API; everything in it can be computed again."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ConditionType(StrEnum):
    """Names of conditions. ``Reconciling`` and ``Stalled`` are there only while true (kstatus)."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SOURCE_VERIFIED = "SourceVerified"
    DATA_READY = "DataReady"
    DATA_CURRENT = "DataCurrent"
    TRAINED = "Trained"
    EVALUATED = "Evaluated"
    EXPORTED = "Exported"
    GATES_PASSED = "GatesPassed"
    PROPOSED = "Proposed"
    SERVING = "Serving"
    TUNED = "Tuned"
    TRACKED = "Tracked"
    MONITORED = "Monitored"
    TRIGGERED = "Triggered"
    LIVE_GATE = "LiveGate"
    FLEET = "Fleet"
    GIT_BEHIND = "GitBehind"
    """There only while true: another release serves than git says, since that one failed."""


class Reason(StrEnum):
    """Why a condition is what it is. CamelCase, stable, documented in docs/conditions.md."""

    AS_DESIRED = "AsDesired"
    SUSPENDED = "Suspended"
    INTERNAL_ERROR = "InternalError"
    RETRYING = "ProgressingWithRetry"
    INVALID_MANIFEST = "InvalidManifest"
    NOT_IN_GIT = "NotInGit"
    NOT_BOUND = "NotBound"
    IN_GIT = "InGit"
    AWAITING_SYNC = "AwaitingSync"
    UNSIGNED = "Unsigned"
    SIGNATURE_INVALID = "SignatureInvalid"
    SIGNATURE_UNTRUSTED = "SignatureUntrusted"
    SIGNATURE_EXPIRED = "SignatureExpired"
    SIGNATURE_REVOKED = "SignatureRevoked"
    NO_PULL_REQUEST = "NoPullRequest"
    NOT_REVIEWED = "NotReviewed"
    DATA_NOT_PINNED = "DataNotPinned"
    DATA_UNSUPPORTED = "DataSourceUnsupported"
    DATA_MISSING = "DataMissing"
    DATA_CORRUPT = "DataCorrupt"
    DATA_UNEXPECTED = "DataUnexpected"
    DATA_LEAKAGE = "GoldenLeakage"
    DATA_VERIFIED = "DataVerified"
    IMPORTING = "ImportingData"
    IMPORT_FAILED = "ImportFailed"
    VALIDATING = "ValidatingData"
    DATA_INVALID = "DataInvalid"
    DATA_UNREACHABLE = "DataSourceUnreachable"
    DATA_NEWEST = "DataIsNewest"
    DATA_NEWER = "NewerData"
    TUNING = "Tuning"
    TUNED = "TuningDone"
    TUNING_FAILED = "TuningFailed"
    TRACKING = "Tracking"
    TRACKED = "RunTracked"
    ALIAS_MOVED = "AliasMoved"
    NAME_TAKEN = "RegisteredNameTaken"
    PROFILING = "Profiling"
    PROFILE_FAILED = "ProfileFailed"
    SIGNALS_QUIET = "SignalsQuiet"
    SIGNAL_FIRING = "SignalFiring"
    TRAFFIC_INCONCLUSIVE = "TrafficInconclusive"
    TRAFFIC_UNREACHABLE = "TrafficUnreachable"
    NOTHING_TRIGGERED = "NothingTriggered"
    TRIGGER_WAITS = "TriggerWaits"
    LABELS_WANTED = "LabelsWanted"
    COOLING_DOWN = "CoolingDown"
    SCHEDULE_INVALID = "ScheduleInvalid"
    BAKING = "Baking"
    BAKE_INCONCLUSIVE = "BakeInconclusive"
    LIVE_GATE_PASSED = "LiveGatePassed"
    LIVE_GATE_FAILED = "LiveGateFailed"
    TRAINING = "Training"
    TRAINED = "RunSucceeded"
    TRAINING_FAILED = "TrainingFailed"
    JOB_FAILED = "JobFailed"
    QUEUED = "Queued"
    EVALUATING = "Evaluating"
    EVALUATED = "EvaluationDone"
    NO_GOLDEN = "NoGoldenSet"
    EXPORTING = "Exporting"
    EXPORTED = "ExportsDone"
    EXPORT_FAILED = "ExportFailed"
    GATES_PASSED = "GatesPassed"
    GATE_FAILED = "GateFailed"
    PARITY_FAILED = "ParityFailed"
    PULL_REQUEST_OPEN = "PullRequestOpen"
    RELEASED = "CandidateReleased"
    HELD = "OnHold"
    DENIED = "RunDenied"
    REJECTED = "ProposalRejected"
    REVERTED = "ReleaseReverted"
    DETACHED = "ProposalDetached"
    RETARGETED = "ProposalRetargeted"
    PROPOSAL_LIMIT = "ProposalLimit"
    PROPOSAL_PAUSED = "ProposalPaused"
    UNSAFE_EDIT = "UnsafeEdit"
    TOO_MANY_PROPOSALS = "TooManyProposals"
    NOT_RELEASED = "NotReleased"
    NO_SERVING = "NothingToServe"
    ROLLING_OUT = "RollingOut"
    CANARY = "Canary"
    SERVING = "ReleaseServing"
    RELEASE_UNKNOWN = "ReleaseUnknown"
    ROLLOUT_FAILED = "RolloutFailed"
    ENGINE_MISMATCH = "EngineMismatch"
    FALLBACK = "FallbackToPrevious"
    ON_DEVICES = "ServedOnDevices"
    NO_DEVICES = "NoDevices"
    WAVE_OPEN = "WaveOpen"
    WAVE_SOAKING = "WaveSoaking"
    FLEET_HALTED = "FleetHalted"
    FLEET_SERVING = "FleetServing"


class _Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class Condition(_Camel):
    """One statement about the model, in the shape of Kubernetes' metav1.Condition."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    message: Annotated[str, Field(max_length=32768)] = ""
    observed_generation: int = 0
    last_transition_time: str = ""


class SourceStatus(_Camel):
    """How the commit came to the tracked branch."""

    author: str
    """Of the commit, as git has it."""
    pull_request: int | None = None
    """Number of the merged pull request, by the forge's word; absent where by none, or where nobody knows."""
    url: str = ""
    approved_by: list[str] = []
    """By the forge's names; known where approvals are required."""
    signed_by: str = ""
    """Known where signatures are required."""


class ServingStatus(_Camel):
    """What answers requests now."""

    version: int | None = None
    replicas: str = ""
    """How many answer, of how many; empty on a host without replicas."""
    file: str | None = None
    url: str = ""


class ProposalStatus(_Camel):
    """An open pull request of ours."""

    number: int
    intent: str
    branch: str
    url: str = ""


class JobProgress(_Camel):
    """How far a running job is, no finer than people need: told anew after a fiftieth of the way."""

    job: str
    phase: str = ""
    epoch: int = 0
    epochs: int = 0
    """0 where the job has none."""
    eta_seconds: int | None = None
    """Left when this was told, rounded."""
    metrics: dict[str, float] = {}
    """The first few of the last epoch."""
    text: str = ""
    """All of it but the metrics, for people."""


class SignalStatus(_Camel):
    """How a watched signal stands. Written on a transition only: values of each window are told by metrics."""

    name: str
    state: Literal["Quiet", "Firing", "Unknown"]
    """``Unknown``: no window has said anything yet."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """As they were at the transition."""
    since: str = ""
    """Start of the first window of it, ISO 8601."""
    episode: str = ""
    """Names the time in which it fires, ``confidence-v7-20261126T1000Z``; empty while it does not."""


class ModelStatus(_Camel):
    """``status`` of a ModelSpec."""

    observed_generation: int = -1
    commit: str = ""
    """Commit whose desired state this describes."""
    source: SourceStatus | None = None
    path: str = ""
    """File in the repository that says what is desired; known in a cluster only."""
    settled: str = ""
    """Names everything that was looked at when nothing was left to do; empty while something is."""
    inputs_digest: str = ""
    candidate: str = ""
    """Digest of the candidate's weights."""
    metrics: dict[str, float] = {}
    """The candidate's, on golden."""
    version: int | None = None
    """Of the pinned release."""
    serving: ServingStatus | None = None
    proposals: list[ProposalStatus] = []
    jobs: list[str] = []
    """That run now."""
    progress: list[JobProgress] = []
    """Of those of them that told; gone when they are."""
    signals: list[SignalStatus] = []
    """In the order of the spec."""
    summary: str = ""
    """One line for people."""
    conditions: list[Condition] = []

    def condition(self, type_: ConditionType) -> Condition | None:
        """Give the condition of that type, or None."""
        return next((c for c in self.conditions if c.type == type_), None)
