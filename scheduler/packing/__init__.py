"""The packing LP whose dual prices say what a GPU in each state can still earn."""
