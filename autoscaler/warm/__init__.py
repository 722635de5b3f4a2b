"""Capacity that is ready before it is needed: placeholders that hold room, images brought to nodes, and
replacements for replicas on nodes that are about to go.

Pure: ``placeholder_count``, ``warm_plan``, ``warm_pods``, ``likely_nodes``, ``interruption``. The rest
watches, asks and writes.
"""
