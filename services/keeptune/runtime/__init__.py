"""What every keeptune program stands on: no studies, no models, only plumbing.

clock, backoff, tasks     time, waiting and named loops, all injectable
errors                    one root of typed errors; each knows its gRPC code and whether to retry
names, convert            resource names; protobuf values to Python values and back
db, migrations            one durable transaction a call: SQLite with group commit, or PostgreSQL
tables, records, ledger,  documents with a state, replay of repeated requests, and a log of events
events, filters, paging   that watchers resume from; the list language they share
artifacts                 content-addressed blobs on a disk or behind S3
config, auth, logging,    settings with origins, tokens and roles, structured logs, metrics and
telemetry, propagation    traces
server, interceptors,     gRPC servers and clients with all of the above wired in
validation, channel
"""
