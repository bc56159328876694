"""Puts services together into processes: all in one (`keeptune dev`) or each alone
(`keeptune serve`). The only place that may import several services.

services  their names
settings  the sections of a config file that concern a process as a whole
assembly  from settings to running programs
dev, serve, config   the commands
"""
