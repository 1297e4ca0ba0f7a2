"""Options that commands share: they stand once, in a dataclass, and arrive in it."""

from dataclasses import dataclass, fields
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from secondlens.cli.app import app
from secondlens.cli.options import spread
from secondlens.cli.survey_options import SurveySettings, SurveySubject


@dataclass(frozen=True)
class Named:
    name: Annotated[str, typer.Argument(help="Whose.")]
    loud: Annotated[bool, typer.Option("--loud", help="In capitals.")] = False


def test_spread_gathers_options_and_keeps_their_order_and_defaults():
    seen = []
    small = typer.Typer()

    @small.command()
    @spread
    def greet(*, times: Annotated[int, typer.Option(help="How often.")] = 2, who: Named, last: str = "end") -> None:
        """Greet."""
        seen.append((times, who, last))

    run = CliRunner().invoke
    assert run(small, ["ann"]).exit_code == 0
    assert run(small, ["bob", "--loud", "--times", "3", "--last", "x"]).exit_code == 0
    assert seen == [(2, Named("ann"), "end"), (3, Named("bob", True), "x")]
    names = [parameter.name for parameter in typer.main.get_command(small).params]
    assert [name for name in names if name in ("times", "name", "loud", "last")] == ["times", "name", "loud", "last"]
    assert run(small, []).exit_code == 2


def test_an_option_twice_is_refused():
    def greet(*, name: str, who: Named) -> None: ...

    with pytest.raises(TypeError, match="name"):
        spread(greet)


@pytest.mark.parametrize("path", [("survey",), ("cluster", "survey")])
def test_both_surveys_have_every_shared_option_with_its_default(path):
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    found = {parameter.name: parameter.default for parameter in command.params}
    for field in (*fields(SurveySubject), *fields(SurveySettings)):
        assert field.name in found
        if field.default is not None and isinstance(field.default, str | int):
            assert found[field.name] == field.default
