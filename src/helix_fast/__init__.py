"""helix-fast: state, token streams, usage and locks of AI agents in Redis or Valkey, fast and without losing a byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .connect import (
    Helix,
    connect,
)
from .errors import (
    AcknowledgedDataLostError,
    BufferFullError,
    CheckpointNotFoundError,
    CheckpointStateError,
    ChunkTooLargeError,
    ConcurrentUpdateError,
    EmbeddedServerError,
    EmbeddedServerUnavailableError,
    ExecutorClosedError,
    HelixError,
    InvalidArgumentError,
    InvalidIdError,
    InvalidUrlError,
    LockError,
    LockLostError,
    LockNotAcquiredError,
    MalformedChunkError,
    MalformedEntryError,
    MalformedLockError,
    MalformedStateError,
    MalformedStreamError,
    NotReplicatedError,
    PatchError,
    ProducerLostError,
    ReaderBusyError,
    RunConflictError,
    RunFailedError,
    SequenceConflictError,
    SequenceGapError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
    StaleFencingTokenError,
    StoreAuthenticationError,
    StoreClosedError,
    StoreConnectionError,
    StoreError,
    StoreResponseError,
    StoreTimeoutError,
    StreamClosedError,
    StreamDeletedError,
    StreamError,
    StreamFailedError,
    StreamFencedError,
    StreamNotFoundError,
    StreamResetError,
    SubAgentRefNotFoundError,
    UsageNotRecordedError,
    WriteOutcomeUnknownError,
)
from .locks.lock import (
    Lock,
)
from .locks.manager import (
    RedisLockManager,
)
from .locks.noop import (
    NoOpLockManager,
)
from .locks.schema import (
    LockInfo,
)
from .state.schema import (
    AgentState,
    BegunRun,
    Checkpoint,
    CheckpointPage,
    MergeChanges,
    MergeResult,
    MessagePage,
    PromoteResult,
    SessionRun,
    StagedChanges,
    SubAgentRef,
    SubAgentRefUpdate,
)
from .state.store import (
    RedisStateStore,
)
from .state.validation import (
    AgentStateSchema,
    SafeParseResult,
)
from .streams.chunks import (
    CheckpointCreatedChunk,
    Chunk,
    CustomChunk,
    ErrorChunk,
    OutputChunk,
    RunInterruptedChunk,
    RunResumedChunk,
    StatePatchChunk,
    StreamChunk,
    StreamResyncChunk,
    SubAgentEndChunk,
    SubAgentStartChunk,
    TextDeltaChunk,
    ThinkingChunk,
    ToolEndChunk,
    ToolStartChunk,
    UnknownChunk,
    decode_chunk,
    encode_chunk,
)
from .streams.manager import (
    RedisStreamManager,
)
from .streams.reader import (
    ResumableReader,
    StreamReader,
)
from .streams.schema import (
    StoredChunk,
    StreamInfo,
    StreamPosition,
)
from .streams.storage import (
    RedisResumableStorage,
)
from .streams.until_stopped import (
    UntilStopped,
)
from .streams.writer import (
    StreamWriter,
)
from .usage.prices import (
    ModelPrice,
)
from .usage.recorder import (
    UsageRecorder,
)
from .usage.rollup_schema import (
    CallTotals,
    CustomTotals,
    SubAgentStats,
    TokenTotals,
    ToolStats,
    UsageRollup,
)
from .usage.schema import (
    CustomUsage,
    SubAgentUsage,
    TokenCounts,
    TokenUsage,
    ToolUsage,
    UnknownUsage,
    UsageEntry,
    UsageSource,
)
from .usage.store import (
    RedisUsageStore,
)

if TYPE_CHECKING:
    from .memory import (
        InMemoryLockManager,
        InMemoryResumableStorage,
        InMemoryStateStore,
        InMemoryStreamManager,
        InMemoryUsageStore,
        MemoryServer,
    )

__all__ = [
    "AcknowledgedDataLostError",
    "AgentState",
    "AgentStateSchema",
    "BegunRun",
    "BufferFullError",
    "CallTotals",
    "Checkpoint",
    "CheckpointCreatedChunk",
    "CheckpointNotFoundError",
    "CheckpointPage",
    "CheckpointStateError",
    "Chunk",
    "ChunkTooLargeError",
    "ConcurrentUpdateError",
    "CustomChunk",
    "CustomTotals",
    "CustomUsage",
    "EmbeddedServerError",
    "EmbeddedServerUnavailableError",
    "ErrorChunk",
    "ExecutorClosedError",
    "Helix",
    "HelixError",
    "InMemoryLockManager",
    "InMemoryResumableStorage",
    "InMemoryStateStore",
    "InMemoryStreamManager",
    "InMemoryUsageStore",
    "InvalidArgumentError",
    "InvalidIdError",
    "InvalidUrlError",
    "Lock",
    "LockError",
    "LockInfo",
    "LockLostError",
    "LockNotAcquiredError",
    "MalformedChunkError",
    "MalformedEntryError",
    "MalformedLockError",
    "MalformedStateError",
    "MalformedStreamError",
    "MemoryServer",
    "MergeChanges",
    "MergeResult",
    "MessagePage",
    "ModelPrice",
    "NoOpLockManager",
    "NotReplicatedError",
    "OutputChunk",
    "PatchError",
    "ProducerLostError",
    "PromoteResult",
    "ReaderBusyError",
    "RedisLockManager",
    "RedisResumableStorage",
    "RedisStateStore",
    "RedisStreamManager",
    "RedisUsageStore",
    "ResumableReader",
    "RunConflictError",
    "RunFailedError",
    "RunInterruptedChunk",
    "RunResumedChunk",
    "SafeParseResult",
    "SequenceConflictError",
    "SequenceGapError",
    "SessionError",
    "SessionExistsError",
    "SessionNotFoundError",
    "SessionRun",
    "StagedChanges",
    "StaleFencingTokenError",
    "StatePatchChunk",
    "StoreAuthenticationError",
    "StoreClosedError",
    "StoreConnectionError",
    "StoreError",
    "StoreResponseError",
    "StoreTimeoutError",
    "StoredChunk",
    "StreamChunk",
    "StreamClosedError",
    "StreamDeletedError",
    "StreamError",
    "StreamFailedError",
    "StreamFencedError",
    "StreamInfo",
    "StreamNotFoundError",
    "StreamPosition",
    "StreamReader",
    "StreamResetError",
    "StreamResyncChunk",
    "StreamWriter",
    "SubAgentEndChunk",
    "SubAgentRef",
    "SubAgentRefNotFoundError",
    "SubAgentRefUpdate",
    "SubAgentStartChunk",
    "SubAgentStats",
    "SubAgentUsage",
    "TextDeltaChunk",
    "ThinkingChunk",
    "TokenCounts",
    "TokenTotals",
    "TokenUsage",
    "ToolEndChunk",
    "ToolStartChunk",
    "ToolStats",
    "ToolUsage",
    "UnknownChunk",
    "UnknownUsage",
    "UntilStopped",
    "UsageEntry",
    "UsageNotRecordedError",
    "UsageRecorder",
    "UsageRollup",
    "UsageSource",
    "WriteOutcomeUnknownError",
    "connect",
    "decode_chunk",
    "encode_chunk",
]


def __getattr__(name: str) -> object:
    # The stores in memory bring a server and its script language along, which programs on a real server never need.
    if name in __all__:
        from . import memory

        return getattr(memory, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
