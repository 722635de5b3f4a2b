"""Placement policies of the MIG simulator. Baselines are re-implemented from what their projects and drivers
are seen to do; ``slicewise`` calls the product's own pure code.
"""
