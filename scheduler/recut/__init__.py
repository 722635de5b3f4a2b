"""Which idle nodes of the device plugin to cut anew into which MIG configuration."""
