"""Generated from autoscaler/nodes/expander_v1/api.proto by ``python -m autoscaler.nodes.regenerate``."""
