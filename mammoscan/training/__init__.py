"""Everything that ``train`` needs and ``run`` does not: data sets, examples, networks, folds, figures, release."""
