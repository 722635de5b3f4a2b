"""Read and write the ``/scale`` of any scalable resource, found by apiVersion and kind through discovery.

Deployments, StatefulSets and custom resources with a scale subresource are treated alike: the plural and the
subresource come from the API server's own list (``GET /apis/GROUP/VERSION``), never from a guess. What was
found is kept; what was not found is asked again after a while, since a CRD may be installed at any time.

Errors name the target, what was missing and what to do. Does not decide any count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

import msgspec

from autoscaler.selectors import Selector, SelectorRefused, parse_selector
from cluster.api_errors import ApiError, ApiRefused, ApiUnreachable
from cluster.client import Api
from cluster.envelopes import object_decoder
from cluster.policy import AutoscalingPolicy
from cluster.wire import ObjectReference, Scale, ScaleSpec

_ASK_AGAIN_SECONDS: Final = 30.0
_MOST_WRITES: Final = 4
# Of a server that does not answer, a thousand targets are not asked one timeout after the other.
AWAY_SECONDS: Final = 5.0

Cause: TypeAlias = Literal["not_found", "forbidden", "conflict", "not_scalable", "policy", "other"]


class TargetRefused(Exception):
    """A target cannot be read or written; ``cause`` is the label of the metric, the message is for people."""

    def __init__(self, cause: Cause, message: str) -> None:
        self.cause: Cause = cause
        super().__init__(message)


class ApiResource(msgspec.Struct, frozen=True):
    """meta/v1 APIResource."""

    name: str = ""
    kind: str = ""
    namespaced: bool = False


class ApiResourceList(msgspec.Struct, frozen=True):
    """What the API server serves of a group and version (discovery)."""

    resources: tuple[ApiResource, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A workload by apiVersion, kind, namespace and name."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, policy: AutoscalingPolicy, namespace: str) -> Target:
        """The target of a policy that stands in ``namespace``."""
        return cls(policy.target.api_version, policy.target.kind, namespace, policy.target.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ScaleSight:
    """What ``/scale`` said: the count asked for, whose pods they are, the object for Events, and the version
    that this was read at (empty: not known).
    """

    target: Target
    path: str
    replicas: int
    selector: Selector
    reference: ObjectReference
    resource_version: str = ""


class Targets:
    """The scale subresources of one cluster. Safe to use from several threads."""

    def __init__(self, api: Api, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._lock = threading.Lock()
        self._plurals: dict[tuple[str, str], str] = {}
        self._absent: dict[tuple[str, str], tuple[float, TargetRefused]] = {}
        # By apiVersion, since an aggregated API has a server of its own.
        self._away: dict[str, tuple[float, str]] = {}

    def read(self, target: Target) -> ScaleSight:
        """Read the scale of ``target``. Raises TargetRefused; ApiError when the API server is away, for
        ``AWAY_SECONDS`` without asking it again.
        """
        until, why = self._away.get(target.api_version, (0.0, ""))
        if why and self._clock() < until:
            raise ApiUnreachable(why)
        try:
            return self._read(target)
        except ApiUnreachable as error:
            self._away[target.api_version] = self._clock() + AWAY_SECONDS, str(error)
            raise

    def _read(self, target: Target) -> ScaleSight:
        path = self._path(target)
        try:
            scale = self._api.get(path, Scale)
        except ApiRefused as refused:
            raise self._refusal(target, refused, "read") from refused
        if not scale.status.selector:
            raise TargetRefused(
                "not_scalable",
                f"{target}: its scale has no status.selector, so its pods cannot be told from others; "
                "a custom resource needs scale.labelSelectorPath in its CRD and a controller that fills it",
            )
        try:
            selector = parse_selector(scale.status.selector)
        except SelectorRefused as refused_selector:
            raise TargetRefused("not_scalable", f"{target}: status.selector {refused_selector}") from None
        reference = ObjectReference(
            api_version=target.api_version,
            kind=target.kind,
            name=target.name,
            namespace=target.namespace,
            uid=scale.metadata.uid,
        )
        version = scale.metadata.resource_version
        return ScaleSight(target, path, scale.spec.replicas, selector, reference, version)

    def write(self, sight: ScaleSight, replicas: int) -> Scale:
        """Ask for ``replicas`` and return the scale as it is then. Raises TargetRefused; ApiError when the
        API server is away.

        Refused when somebody else has changed the count since it was read. A change of anything else (a
        status, say) makes a new version as well: then the same is asked again at that version.
        """
        version = sight.resource_version
        for _ in range(_MOST_WRITES):
            metadata = {"metadata": {"resourceVersion": version}} if version else {}
            try:
                answer = self._api.patch(sight.path, {**metadata, "spec": {"replicas": replicas}})
                break
            except ApiRefused as refused:
                if refused.status != HTTPStatus.CONFLICT or not version:
                    raise self._refusal(sight.target, refused, f"set to {replicas} replicas") from refused
                version = self._version_at(sight)
        else:
            raise TargetRefused("conflict", f"{sight.target}: changed {_MOST_WRITES} times meanwhile")
        try:
            return object_decoder(Scale).decode(answer)
        except msgspec.DecodeError:  # it was taken all the same
            return Scale(spec=ScaleSpec(replicas=replicas))

    def _version_at(self, sight: ScaleSight) -> str:
        """The version that the scale has now, if its count is still the one that was seen."""
        now = self.read(sight.target)
        if now.replicas != sight.replicas:
            raise TargetRefused(
                "conflict",
                f"{sight.target}: somebody set {now.replicas} replicas meanwhile, not {sight.replicas}",
            )
        return now.resource_version

    def _path(self, target: Target) -> str:
        plural = self._plural(target)
        root = _group_root(target.api_version)
        return f"{root}/namespaces/{quote(target.namespace)}/{plural}/{quote(target.name)}/scale"

    def _plural(self, target: Target) -> str:
        key = (target.api_version, target.kind)
        with self._lock:
            plural = self._plurals.get(key)
            if plural is not None:
                return plural
            absent = self._absent.get(key)
            if absent is not None and self._clock() < absent[0]:
                raise absent[1]
        try:
            plural = self._discover(target)
        except TargetRefused as refused:
            with self._lock:
                self._absent[key] = (self._clock() + _ASK_AGAIN_SECONDS, refused)
            raise
        with self._lock:
            self._plurals[key] = plural
            self._absent.pop(key, None)
        return plural

    def _discover(self, target: Target) -> str:
        version, kind = target.api_version, target.kind
        try:
            found = self._api.get(_group_root(version), ApiResourceList)
        except ApiRefused as refused:
            if refused.status != 404:
                raise
            raise TargetRefused(
                "not_found",
                f"target.apiVersion: got {version!r}, which this cluster does not serve; "
                "correct it or install what brings it",
            ) from None
        plural = next(
            (r.name for r in found.resources if r.kind == kind and "/" not in r.name and r.namespaced), None
        )
        if plural is None:
            kinds = sorted({r.kind for r in found.resources if "/" not in r.name and r.namespaced})
            raise TargetRefused(
                "not_found", f"target.kind: got {kind!r}, expected one of {version}: {', '.join(kinds)}"
            )
        if not any(r.name == f"{plural}/scale" for r in found.resources):
            raise TargetRefused(
                "not_scalable",
                f"target.kind: {kind} of {version} has no scale subresource; name a resource that has one, "
                "or add subresources.scale to its CRD",
            )
        return plural

    def _refusal(self, target: Target, refused: ApiRefused, doing: str) -> TargetRefused:
        if refused.status == 404:
            with self._lock:  # the kind itself may be gone
                self._plurals.pop((target.api_version, target.kind), None)
            return TargetRefused("not_found", f"{target}: does not exist; create it or delete its policy")
        if refused.status in (401, 403):
            return TargetRefused(
                "forbidden",
                f"{target}: not allowed to {doing} its scale ({refused.message}); a custom resource needs a "
                "ClusterRole for its /scale with the label slicewise.io/aggregate-to-scale-targets: "
                '"true" (deploy/manifests/rbac.yaml)',
            )
        if refused.status == 409:
            return TargetRefused("conflict", f"{target}: changed meanwhile ({refused.message})")
        return TargetRefused("other", f"{target}: could not {doing} its scale: {refused}")


def _group_root(api_version: str) -> str:
    root = "/apis" if "/" in api_version else "/api"
    return f"{root}/{quote(api_version)}"


def in_words(error: ApiError | TargetRefused) -> tuple[Cause, str]:
    """Return the metric's label and the sentence for either kind of failure."""
    return (error.cause, str(error)) if isinstance(error, TargetRefused) else ("other", str(error))
