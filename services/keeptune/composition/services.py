"""The services there are; apart, since the command line's help needs no more than their names."""

SERVICES = ("search", "training", "evaluation", "deployment", "retuning")
