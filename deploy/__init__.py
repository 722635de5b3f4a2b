"""How Slicewise is installed and tried: manifests, the local control plane, the demo.

Never part of the wheel.
"""
