"""The demo: one command, a real control plane, the same arrivals with and without Slicewise."""
