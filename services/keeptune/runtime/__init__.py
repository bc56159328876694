"""What every keeptune program stands on: no studies, no models, only plumbing.

clock, backoff, tasks     time, waiting and named loops, all injectable
errors                    one root of typed errors; each knows its gRPC code and whether to retry
names, convert            resource names; protobuf values to Python values and back
db                        one durable transaction a call, on either engine:
  sqlite, postgres          one writer with group commit; a pool with serializable transactions
  sql_errors, migrations    what engines say when they fail; schemas brought up to date at start
records                   documents with a state, on the tables of `tables`, with
  ledger, events, notify    the replay of repeated requests, the log that watchers resume from,
  filters, paging, fields,  and the language of list calls
  page_tokens
  documents, micros         how documents and times are stored
artifacts                 content-addressed blobs on a disk or behind S3
manifest                  what the registry signs of a version, and hosts verify
datasets, sources,        data sets read the same way by training and evaluation; the summaries
columns, channels         of them that evaluation makes and the agent compares with
config, auth, addresses   settings with origins, tokens and roles, where servers listen
logging, telemetry,       structured logs, metrics and traces; what travels with a call
propagation, subject
server, interceptors,     gRPC servers and clients with all of the above wired in
validation, wellformed,
channel
"""
