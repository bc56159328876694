"""The deployment service: versions, rollouts, hosts, and the link that their agents dial.

model       models, versions and how they are watched; pure
fleet       hosts, what they report and what they are ordered; pure
signature   whether a stated signature and an ONNX graph fit; pure
packaging   a version laid out for Triton; pure
rollout     a rollout and what people may do to it; pure
waves       the planner of rollouts, with `progress` (what hosts say) and `way_back`; pure
steady      what hosts do while no rollout speaks for them; pure
orders      the next action of a host, and whether it is time for it; pure
inspection  what an ONNX file has, found out by `inspector` in a process of its own
signing     the key that signs manifests and hosts' credentials
registry    takes versions in: checked, signed, numbered
samples     captured samples as arrays: checked when uploaded, joined when exported
captures    uploads and exports
reconcile   the loop: what is, what should be, orders
sessions    the live links to agents
identity    who speaks for a host
sql_store   what is kept
convert     messages to values and back (`convert_fleet` for rollouts and hosts)
servicer    DeploymentService; `link_servicer`: AgentLink
program     the wiring
"""
