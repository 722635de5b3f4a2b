"""The command line, a kubectl plugin."""
