"""Generated from autoscaler/doors/externalscaler/externalscaler.proto by ``python -m autoscaler.doors.regenerate``."""
