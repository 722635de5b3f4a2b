"""A Prometheus scrape configuration that finds pods by their annotations, as clusters usually have one.

`prometheus.io/scrape: "true"`, `/port` and `/path`; each series is labelled with `namespace` and `pod`.
Values in, values out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_META = "__meta_kubernetes_pod_"
_ANNOTATION = f"{_META}annotation_prometheus_io_"


def pods_by_annotation(kubeconfig: Path, namespaces: Sequence[str]) -> dict[str, Any]:
    """The job `pods`; Prometheus discovers the pods itself, with the rights of this kubeconfig."""
    return {
        "job_name": "pods",
        "kubernetes_sd_configs": [
            {"role": "pod", "kubeconfig_file": str(kubeconfig), "namespaces": {"names": list(namespaces)}}
        ],
        "relabel_configs": [
            {"source_labels": [f"{_ANNOTATION}scrape"], "regex": "true", "action": "keep"},
            {"source_labels": [f"{_META}ip"], "regex": ".+", "action": "keep"},
            {
                "source_labels": [f"{_ANNOTATION}path"],
                "regex": "(.+)",
                "target_label": "__metrics_path__",
            },
            {
                "source_labels": [f"{_META}ip", f"{_ANNOTATION}port"],
                "separator": ":",
                "target_label": "__address__",
            },
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": [f"{_META}name"], "target_label": "pod"},
        ],
    }
