"""The packing LP whose dual prices say what a GPU in each state can still earn.

mix (expected demand) + supply (free capacity) → master (LP) ⇄ columns (knapsack) → prices (tables). Pure: no
clock, no client.
"""
