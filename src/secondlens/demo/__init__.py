"""The whole story in the embedded world: a list of commands, each with what it shows, and a report of them."""

from secondlens.demo.run import DemoRun, run_demo
from secondlens.demo.settings import DemoSettings

__all__ = ["DemoRun", "DemoSettings", "run_demo"]
