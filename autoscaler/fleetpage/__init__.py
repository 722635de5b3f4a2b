"""The local page that shows every node, GPU and MIG slice with the price of a chosen pod."""
