"""Doors for those who keep HPA or KEDA as the actuator: they ask, we answer with the decision."""
