import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeptune.runtime import names
from keeptune.runtime.errors import InvalidInput

ids = st.from_regex(r"\A[a-z0-9-]{1,63}\Z")
numbers = st.integers(1, 10**17)
SIMPLE = (
    "study", "trainer", "training", "evaluation", "model", "rollout", "host", "policy", "retune",
)  # fmt: skip
NUMBERED = ("trial", "version")


@pytest.mark.parametrize("kind", SIMPLE)
@given(identifier=ids)
def test_names_are_parsed_to_what_they_were_made_of(kind: str, identifier: str) -> None:
    name = getattr(names, f"{kind}_name")(identifier)
    assert getattr(names, f"parse_{kind}")(name) == identifier


@pytest.mark.parametrize("kind", NUMBERED)
@given(identifier=ids, number=numbers)
def test_counted_names_too(kind: str, identifier: str, number: int) -> None:
    name = getattr(names, f"{kind}_name")(identifier, number)
    assert getattr(names, f"parse_{kind}")(name) == (identifier, number)


def test_names_as_the_contracts_write_them() -> None:
    assert names.trial_name("s", 3) == "studies/s/trials/3"
    assert names.version_name("m", 1) == "models/m/versions/1"
    assert names.policy_name("p") == "policies/p"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "studies",
        "studies/",
        "studies/X",
        "studies/a/b",
        "trials/a",
        "studies/../x",
        "studies/" + "a" * 64,
        "studies/a\n",
    ],
)
def test_other_forms_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        names.parse_study(name, field="parent")
    assert caught.value.field == "parent"
    assert "studies/{study}" in caught.value.fix


@pytest.mark.parametrize(
    "name",
    [
        "studies/a",
        "studies/a/trials/0",
        "studies/a/trials/x",
        "studies/a/trials/01",
        "studies/a/trials/1/x",
        "models/a/trials/1",
    ],
)
def test_other_forms_of_counted_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        names.parse_trial(name)


@pytest.mark.parametrize("identifier", ["", "A", "a_b", "a" * 64, "a/b", ".."])
def test_no_name_is_made_of_what_is_no_id(identifier: str) -> None:
    with pytest.raises(InvalidInput):
        names.study_name(identifier)


def test_counting_begins_with_one() -> None:
    with pytest.raises(InvalidInput):
        names.trial_name("s", 0)


def test_new_ids_are_ids_and_differ_and_sort_by_their_time() -> None:
    made = [names.new_id("retune") for _ in range(500)]
    assert len(set(made)) == 500
    for identifier in made:
        names.check_id(identifier)
    stamps = [identifier.removeprefix("retune-")[:10] for identifier in made]
    assert stamps == sorted(stamps)
    assert names.check_id(names.new_id())
