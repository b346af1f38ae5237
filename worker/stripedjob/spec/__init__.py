"""The StripedJob resource: one model, from which files are read and the CRD is made.

Used by the CLI, the local supervisor, the worker and the operator.
"""

from stripedjob.spec.crd import crd, crd_yaml
from stripedjob.spec.load import SpecError, load, parse
from stripedjob.spec.model import API_VERSION, GROUP, KIND, PLURAL, VERSION, Spec, StripedJob

__all__ = ["API_VERSION", "GROUP", "KIND", "PLURAL", "VERSION", "Spec", "SpecError", "StripedJob"]
__all__ += ["crd", "crd_yaml", "load", "parse"]
