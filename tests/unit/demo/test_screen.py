"""What the screen says of a study comes from its trials, while they run."""

from __future__ import annotations

from keeptune.demo.screen import study_text
from keeptune.demo.watching import Progress
from keeptune.v1 import search_pb2


def trial(number: int, state: search_pb2.TrialState.ValueType) -> search_pb2.Trial:
    return search_pb2.Trial(name=f"studies/digits/trials/{number}", state=state)


def test_the_counter_follows_the_trials() -> None:
    progress = Progress(max_trials=24)
    assert study_text(progress, []) == "0/24 trials, 0 pruned"
    states = (
        search_pb2.TRIAL_STATE_COMPLETED,
        search_pb2.TRIAL_STATE_PRUNED,
        search_pb2.TRIAL_STATE_FAILED,
        search_pb2.TRIAL_STATE_INFEASIBLE,
        search_pb2.TRIAL_STATE_RUNNING,
    )
    assert [progress.hear(trial(i, state)) for i, state in enumerate(states)] == [
        *(True, True),
        *(False, False, False),
    ]
    assert study_text(progress, [0.9, 0.95]) == "4/24 trials, 1 pruned, best 0.950"


def test_a_trial_that_is_heard_of_again_counts_once() -> None:
    progress = Progress(max_trials=2)
    heard = [
        progress.hear(trial(1, state))
        for state in (
            search_pb2.TRIAL_STATE_RUNNING,
            search_pb2.TRIAL_STATE_COMPLETED,
            search_pb2.TRIAL_STATE_COMPLETED,
        )
    ]
    assert heard == [False, True, False]
    assert (progress.finished, progress.pruned) == (1, 0)
