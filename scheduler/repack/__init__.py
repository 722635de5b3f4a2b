"""Which running pods to move so that waiting ones fit, or so that the moves pay for themselves."""
