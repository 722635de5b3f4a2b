"""Every reason that Slicewise writes on an Event, each with what it means. Other places use these names."""

from __future__ import annotations

# --- policy, on the ConfigMap
POLICY_LOADED = "PolicyLoaded"  # a policy took effect
POLICY_REFUSED = "PolicyRefused"  # an edit cannot be used; the last good policy stays in force
POLICY_MISSING = "PolicyMissing"  # the ConfigMap or its key is gone; the last good policy stays in force
POLICY_CONFLICT = "PolicyConflict"  # two autoscaling policies name the same target; the older one rules

# --- autoscaling, on the target
SCALED_UP = "ScaledUp"  # replicas were added
SCALED_DOWN = "ScaledDown"  # replicas were removed
SCALING_HELD = "ScalingHeld"  # signals are missing or contradict one another: the replicas stay
SCALING_FALLBACK = "ScalingFallback"  # signals were missing for long: the policy's fallback was applied
SCALING_LIMITED = "ScalingLimited"  # more replicas are needed than the policy or the fleet allows
SIGNALS_CONTRADICT = "SignalsContradict"  # pods and Prometheus differ for long; the larger load counts
REPLICAS_TAKEN_OVER = "ReplicasTakenOver"  # somebody else set the replicas: autoscaling goes on from there
SCALING_REFUSED = "ScalingRefused"  # the API server refused the new number, or the target is not scalable

# --- warm capacity, on the ConfigMap of the policy
WARM_REFUSED = "WarmRefused"  # placeholders or prefetches could not be made

# --- planning and placement, on the pod
NOT_PLACEABLE = "NotPlaceable"  # no node has room of the wanted shape
GATE_RELEASED = "GateReleased"  # the scheduling gate was removed without a plan, after its timeout

# --- moving running pods, on the pod moved and on the pod it was moved for
REPACKED = "Repacked"  # the pod was evicted so that another fits or money is saved; its successor has a place
ROOM_MADE = "RoomMade"  # pods were moved away so that this one fits
REPACK_FAILED = "RepackFailed"  # an eviction was refused, or a successor has no node

# --- MIG geometry, on the Node
RECUT = "MigRecut"  # an idle node gets another MIG configuration
RECUT_DONE = "MigRecutDone"  # it has it, and takes pods again
RECUT_FAILED = "MigRecutFailed"  # the MIG manager failed or did not answer; the old configuration is restored

# --- device order, on its ConfigMap
DEVICE_ORDER_REFUSED = "DeviceOrderRefused"  # it could not be written; drivers keep the order they have

# --- nodes, on the ConfigMap of the policy and on the Node
NODE_GROUP_CHOSEN = "NodeGroupChosen"  # Cluster Autoscaler was told which node group to grow
SCALE_DOWN_HELD = "ScaleDownHeld"  # node autoscalers are told to keep the node
SCALE_DOWN_RELEASED = "ScaleDownReleased"  # they are no longer told to

# --- batch in time, on the Job or pod
BATCH_RELEASED = "BatchReleased"  # its best hour within the window has come
BATCH_AT_RISK = "BatchAtRisk"  # let go at once: its deadline may not hold, or no GPUs are free before it
BATCH_WINDOW_REFUSED = "BatchWindowRefused"  # its window cannot be read, so it is not held
BATCH_MISSED = "BatchDeadlineMissed"  # it ended after its completion window
BATCH_RELEASE_FAILED = "BatchReleaseFailed"  # the API server refused the release; it is tried again

# --- node side, on the Node
GPU_UNHEALTHY = "GpuUnhealthy"  # a GPU left the published devices
GPU_RECOVERED = "GpuRecovered"  # a GPU is published again
MIG_FOREIGN = "MigForeign"  # MIG instances that the driver did not make: left alone, their units not offered
SLICES_REFUSED = "SlicesRefused"  # the API server does not take the node's ResourceSlices as they must be
MODEL_UNKNOWN = "GpuModelUnknown"  # the GPU is handled whole, since its MIG grid is not known

NORMAL = "Normal"
WARNING = "Warning"
