"""Options that commands share: they stand once, in a dataclass, and arrive in it."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any

import pytest
import typer
from typer.models import OptionInfo
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


def options_of(application: typer.Typer, path: str = "") -> Iterator[tuple[str, dict[str, tuple[Any, Any, str]]]]:
    """Every command with its options: by name, their type, default and help."""
    for command in application.registered_commands:
        assert command.callback is not None
        found = {}
        for parameter in inspect.signature(command.callback, eval_str=True).parameters.values():
            for note in getattr(parameter.annotation, "__metadata__", ()):
                if isinstance(note, OptionInfo):
                    # In an annotation the first declared name stands where a default would.
                    names = [name for name in (note.default, *(note.param_decls or ())) if str(name).startswith("--")]
                    kind = (parameter.annotation.__origin__, parameter.default, note.help or "")
                    found |= dict.fromkeys(names or [f"--{parameter.name.replace('_', '-')}"], kind)
        yield f"{path}{command.name or command.callback.__name__.replace('_', '-')}", found
    for group in application.registered_groups:
        assert group.typer_instance is not None
        yield from options_of(group.typer_instance, f"{path}{group.name} ")


COMMANDS = dict(options_of(app))


def test_options_of_one_name_mean_the_same() -> None:
    assert len(COMMANDS) > 40
    for command, options in COMMANDS.items():
        for name, (kind, default, text) in options.items():
            where = f"{command} {name}"
            if name == "--device" and command != "world train":
                assert (kind, default, text) == (str, "cpu", "Device of the model: cpu, cuda or mps."), where
            if name == "--batch-size":
                assert text.startswith("Images per forward pass"), where
            # Ray's workers hold models, the world's draw scenes.
            if name == "--workers" and not command.startswith(("cluster", "world")):
                assert (kind, default) == (int | None, None), where
                assert text.startswith("Processes that decode images; default: "), where
            if name == "--seed":
                assert text.startswith("Random seed of "), where
                assert default in (0, None), where
            if name in ("--layers", "--layer"):
                assert kind in (str | None, int | None, int), where
            if name == "--limit":
                assert "at most" in text or "to print" in text, where
            if name == "--json":
                assert (kind, default) == (bool, False), where


def test_every_command_that_prints_does_so_for_machines() -> None:
    # These open pages, ask a person, or print nothing but the names of what they wrote.
    without = {name for name, options in COMMANDS.items() if "--json" not in options}
    assert without <= {"view", "export", "attack judge", "world render", "world train"}, without
