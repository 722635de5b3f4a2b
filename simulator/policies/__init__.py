"""Placement policies of the packing simulator, a file each. Baselines are re-implemented from their papers
and the behaviour of their published code; ``slicewise`` calls the product's own pure code.
"""
