"""The node's DRA driver ``gpu.slicewise.io``: what it offers, how a claim is made ready and given back.

Pure: ``sharing`` ``hardware`` ``devices`` ``ownership`` ``decide`` ``recovery`` ``slice_plan`` and the
documents of ``cdi``. I/O: ``checkpoint_file``, ``cdi_files``, ``driver``, ``publisher``.
"""
