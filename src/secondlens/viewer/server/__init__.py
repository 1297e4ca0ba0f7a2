"""The viewer's server: the same pages as an export, with the model behind them. Needs the extra `viewer`."""
