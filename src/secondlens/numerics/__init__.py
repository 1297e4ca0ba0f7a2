"""Pure tensors: the largest effects in one pass, sums that do not round, norms in path space, histograms."""
