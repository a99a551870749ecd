"""From evaluation records to a latent space: everything that is learned.

`records` reads a response matrix and packs the space, `core` says what is learned in which
order, the other modules fit one part each. Nothing that serves requests imports from here.
"""

from zerorouter.fitting.evidence import FittingSettings, Report
from zerorouter.fitting.records import as_requests, fit_space, with_version

__all__ = ["FittingSettings", "Report", "as_requests", "fit_space", "with_version"]
