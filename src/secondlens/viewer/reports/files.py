"""The files of whatever a study found: one function for all kinds."""

from functools import singledispatch
from pathlib import Path

from secondlens.studies.ablation import AblationStudy
from secondlens.studies.descriptions import DescriptionStudy
from secondlens.studies.first_order import FirstOrderStudy
from secondlens.studies.indirect import Table1
from secondlens.viewer.reports import ablation, descriptions, first_order, indirect


@singledispatch
def write_files(study: object, folder: Path) -> list[Path]:
    """Write the files of a study into a folder, and return their paths."""
    raise TypeError(f"expected a study with a report, got {type(study).__name__}")


write_files.register(AblationStudy, ablation.write_study)
write_files.register(DescriptionStudy, descriptions.write_report)
write_files.register(FirstOrderStudy, first_order.write_report)
write_files.register(Table1, indirect.write_report)
