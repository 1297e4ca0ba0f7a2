"""`secondlens study`: the paper's experiments, one command each."""

import typer

from secondlens.cli import study_first_order, study_indirect, study_selectivity

app = typer.Typer(help="The paper's experiments on labelled images.", no_args_is_help=True)
app.command(name="selectivity")(study_selectivity.selectivity)
app.command(name="table1")(study_indirect.table1)
app.command(name="indirect")(study_indirect.indirect)
app.command(name="first-order")(study_first_order.first_order)
