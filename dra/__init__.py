"""What a GPU is: catalogue of models, MIG geometry, NVLink, inventory, ResourceSlices and claims.

Pure modules only, but for ``nvml``, ``cdi`` and ``plugin`` (I/O with the card and the kubelet).
"""
