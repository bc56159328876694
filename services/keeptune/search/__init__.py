"""The search service: studies and their trials, the only queue of trials there is.

model            studies and trials, and how they may change (pure)
domains, space   what parameters can be; `space_rules`, `study_rules` say what is wrong with them
optimizers/      what suggests trials, one family a file
replay           an optimiser rebuilt from its study's history
insight/         what results tell: importance, dependence, outlook (pure)
pruning, pareto  which trials are not worth finishing, and which are the best (pure)

tables, sql_store, history, listing    what is kept, and how it is read
unit_of_work     every way a study changes, in one transaction; `trial_rows`: what it writes,
                 `known`: what is remembered from one to the next
desk             all calls that wait at a study share a transaction
suggestions      a study's optimiser, and what it suggested ahead
leasing          the lease protocol; `studies`, `imports`: what is done with studies as a whole
hot              what is kept in memory of studies in use
insights         insight worked out of a study, off the event loop; `readings`: what it reads,
                 `insight_rules`: what cannot be asked

protocol, *servicer, convert*   the gRPC side
program, config                 the wiring, and a loop that ends silent workers' leases
"""
