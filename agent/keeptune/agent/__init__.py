"""The agent on a serving host: it samples, watches, asks for retunes, swaps models, goes back.

It dials out to the control plane and works on without it. What is true stands on the disk and in
Triton; it may be killed at any moment.

link          session (orders in, reports out), orders, uploads, artifacts, reports, credentials
carrying out  reconcile (pure: order and state to steps), carrier, host_store
serving       keeper (probes, bakes, the way back), health, updates, repository, package,
              model_config, onnx_file
watching      watcher (all models), model_watch (one), predictions, outcomes, captures, limits,
              detectors/, signals, evidence
sampling      sampling, datagram, trace_sampling, trace_file, shim/ (runs inside Triton)
Triton        triton (calls), triton_model, triton_endpoint, tensors, latency, tritonserver and
              serving_host (run one on a development host)
disk          durable_file, spool
wiring        config, settings, program, servicer, enrolment, status, command
"""
