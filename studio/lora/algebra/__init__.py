"""The mathematics of combining: each method one pure function of the parts of one module."""

from studio.lora.algebra.compression import compress
from studio.lora.algebra.per_factor import per_factor
from studio.lora.algebra.ranks import RankLimit, cut_error, error_curve
from studio.lora.algebra.sce import sce
from studio.lora.algebra.singular import singular_values
from studio.lora.algebra.sparse import breadcrumbs, dare_linear, dare_ties, della, magnitude_prune, ties
from studio.lora.algebra.spherical import nuslerp, slerp
from studio.lora.algebra.sums import average, cat, linear, svd, task_arithmetic

__all__ = [
    "RankLimit",
    "average",
    "breadcrumbs",
    "cat",
    "compress",
    "cut_error",
    "dare_linear",
    "dare_ties",
    "della",
    "error_curve",
    "linear",
    "magnitude_prune",
    "nuslerp",
    "per_factor",
    "sce",
    "singular_values",
    "slerp",
    "svd",
    "task_arithmetic",
    "ties",
]
