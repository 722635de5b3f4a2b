"""One file a provider of grid carbon intensity. A provider answers an intensity or a typed absence."""
