"""The retuning service: the loop that keeps a served model good with nobody in it.

It owns policies (what a person wants for a model) and retunes (one pass of the loop each), and
drives every retune through the other services by their public contracts alone.

model     policies, retunes, their states and what may follow what; pure
decide    from a retune and what was observed to the one thing to do next; pure
observe   reads what the other services say about a retune's study, training, evaluation, rollout
steps     the idempotent calls that carry a decision out
loop      observe, decide, step, persist; again and again, for every open retune
admission who gets a retune when one is asked for: start, join, cooldown or stale; pure
store     policies and retunes on disk
servicer  RetuningService
"""
