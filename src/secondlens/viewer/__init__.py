"""The viewer: an atlas as web pages, exported as plain files or served with the model behind them."""

from secondlens.viewer.card import NeuronView
from secondlens.viewer.export import export
from secondlens.viewer.site import Site

__all__ = ["NeuronView", "Site", "export"]
