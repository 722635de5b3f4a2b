"""Which nodes to add and which may go: advice for Cluster Autoscaler and Karpenter, from the prices that
place pods.

Pure: ``daemons``, ``node_kinds``, ``fresh_node``, ``node_options``, ``hints``, ``standing``, ``karpenter``,
``scale_down``.
I/O: ``daemon_sets`` (watch), ``expander`` (gRPC), ``side`` (routes, annotations). Nodes are never created or
deleted here.
"""
