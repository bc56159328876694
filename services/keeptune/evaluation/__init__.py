"""The evaluation service: is a model good, and is it better than the one that serves.

It owns evaluations: what was to be judged, what was measured, and the verdict, which never
changes. What it measures is the ONNX file that will be served.

model       evaluations, results, gates and verdicts; pure
catalog     the metrics there are, and which way each is better; pure
metrics     from outputs and truth to metrics with intervals; pure
comparison  candidate against champion on the same rows: paired tests; pure
scoring     one dataset's result, overall and slice by slice; pure
gate        from what was measured to a verdict with its evidence; pure
rules       whether a gate makes sense, before anything is judged; pure
latency     how long one call takes
profile     the reference profile that agents compare with
onnx_model  ONNX files read as data from strangers, and run by ONNX Runtime
contestant  a model and its answers on a dataset
judge       runs all of it; job: what goes in and what comes out, as files
judge_host  the process in whose forks the jobs are done; hosts: the service's end of it
judging     makes a job of an evaluation and has it done, with a deadline
admission   what is refused at once
loop        judges what is open
store       evaluations on disk
convert     protobuf to model and back
servicer    EvaluationService
program     the wiring
"""
