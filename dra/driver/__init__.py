"""Our DRA driver: what to prepare and unprepare on a node, what is published, what survives a crash."""
