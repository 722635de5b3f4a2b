"""The planned road: choose nodes for waiting pods and nominate them."""
