"""The device plugin protocol (k8s.io/kubelet v0.36.3, Apache License 2.0), for a plugin that only tests have."""
