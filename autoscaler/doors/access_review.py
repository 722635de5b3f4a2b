"""Whether a caller may read a metric: asked of kube-apiserver (SubjectAccessReview) and kept for ten seconds.

The rule that every aggregated API server follows (apiserver's delegated authorisation, whose default cache
is ten seconds too): the front proxy has authorised the caller already, and the server behind it asks once
more, so that a name in a header alone opens nothing. What cannot be asked is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from autoscaler.doors.front_proxy import User
from cluster.api_errors import ApiUnreachable
from cluster.client import Api

KEPT_SECONDS: Final = 10.0
_MOST_KEPT: Final = 4096
_PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Access:
    """One read of one metric in one namespace."""

    group: str
    version: str
    namespace: str
    resource: str
    verb: str = "list"  # what kube-apiserver makes of a GET of namespaces/NAMESPACE/METRIC


class _Verdict(msgspec.Struct, frozen=True):
    allowed: bool = False
    reason: str = ""


class _Review(msgspec.Struct, frozen=True):
    status: _Verdict = _Verdict()


class AccessReview:
    """Safe to use from several threads."""

    def __init__(self, api: Api, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[User, Access], tuple[float, bool]] = {}

    def allows(self, user: User, access: Access) -> bool:
        """Whether ``user`` may. Raises ApiError when that cannot be asked."""
        key, now = (user, access), self._clock()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and now < kept[0]:
            return kept[1]
        allowed = self._ask(user, access)
        with self._lock:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[key] = (now + KEPT_SECONDS, allowed)
        return allowed

    def _ask(self, user: User, access: Access) -> bool:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.name,
                "groups": list(user.groups),
                "extra": {name: list(values) for name, values in user.extra},
                "resourceAttributes": {
                    "group": access.group,
                    "version": access.version,
                    "namespace": access.namespace,
                    "resource": access.resource,
                    "verb": access.verb,
                },
            },
        }
        answer = self._api.post(_PATH, body)
        try:
            return msgspec.json.decode(answer, type=_Review).status.allowed
        except msgspec.DecodeError as error:
            raise ApiUnreachable(
                f"POST {_PATH}: got an answer that is no SubjectAccessReview ({error})"
            ) from error
