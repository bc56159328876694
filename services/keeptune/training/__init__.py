"""The training service: turns parameters into models.

It keeps trainings, their progress and their anomalies, and the data it has prepared for them. It
keeps no trials: SearchService is the only queue of those, and the workers here lease from it like
any other client.

model        trainings and how their state may change; pure
decide       what a training needs next, from what is; pure
allocation   who gets how many of the host's worker processes; pure
supervisor   the loop that looks, decides and does
jobs         what a worker is told to do; pure
runs         the workers of one training, and what they say
studies      what a study tells of itself, and its best trial
admission    all checks of a new training before it is acknowledged
store        trainings on disk, with their events
datasets/    from datasets to arrays that all workers of the host share
trainers/    the plugin contract, and our own trainers `image` and `tabular`
engines/     the processes that trials run in
checkpoint   one trial's weights as safetensors
export       from a checkpoint to the ONNX file that is judged and served
convert      protobuf to model and back
servicer     validate, call, convert
program      the wiring
"""
