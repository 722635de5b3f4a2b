"""Work that is held because it only has to be done by a deadline: how it says so, and how it is let go.

``read`` (pure) knows the annotations, ``shelf`` keeps what is held, ``release`` writes, ``guard`` lets go of
what is due although nobody planned it. When each should start is ``autoscaler.batch``'s to say.
"""
