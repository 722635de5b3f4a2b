"""The process on a GPU node, ``slicewise-node``: discovery and the DRA driver put together."""
