"""The training page names every option that there is."""

import argparse

import pytest

from tests.training.conftest import REPOSITORY
from training import evaluate, options


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        found.update(name for name in action.option_strings if name.startswith("--") and name != "--help")
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= options_of(command)
    return found


@pytest.mark.parametrize("option", sorted(options_of(options.build_parser())))
def test_every_option_of_fit_is_documented(option: str) -> None:
    assert f"`{option}" in (REPOSITORY / "docs" / "training.md").read_text()


def test_the_dials_of_evaluate_are_documented() -> None:
    page = (REPOSITORY / "docs" / "training.md").read_text()

    undocumented = {option for option in options_of(evaluate.build_parser()) if option not in page}

    assert undocumented <= {"--device", "--threads"}
