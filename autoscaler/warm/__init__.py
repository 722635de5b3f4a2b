"""Capacity that is ready before it is needed: placeholders that hold room, images brought to nodes, and
replacements for replicas on nodes that are about to go.

Pure: ``placeholder_count``, ``warm_pods``, ``likely_nodes``, ``interruption``. I/O: ``warm_loop``.
"""
