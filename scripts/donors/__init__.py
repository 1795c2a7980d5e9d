"""What changes with a covariate, cell type by cell type, with the sample as the unit.

The checks of the config use what is imported here.
"""

from donors._formula import is_curve, parse, variables_of

__all__ = ["is_curve", "parse", "variables_of"]
