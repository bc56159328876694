"""The command line: `keeptune`."""
