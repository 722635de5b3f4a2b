"""A Kubernetes control plane on one machine without Docker: build, start, stop."""
