"""How trials get their processes. One engine so far, `local`: processes on the service's host.

local      the pool: forks workers from the nursery and follows what they say
nursery    a small process of its own that has torch loaded and warm, and forks workers
warm       what the nursery loads and does before it forks
messages   what service and workers say to each other, one JSON line each
link       a worker's end of that conversation
worker     what a forked worker does: a study, one fixed run, or an export
trial      one trial: fit, measure, report, keep the checkpoint
leases     a worker's dealings with SearchService: lease, report, heartbeat, complete
"""
