"""What the model is made of: a part as such, and the parts of Kubernetes' own PodTemplateSpec that are looked at."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

YEAR_SECONDS = 31_536_000
Seconds = Annotated[int, Field(le=YEAR_SECONDS)]


class Part(BaseModel):
    """A part of the resource: immutable, camelCase in files, no unknown fields.

    The text under a field is its description in the CRD. crd.py reads it from the files: pydantic can too, but does so
    at every import, and takes longer for it than for all the rest.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        populate_by_name=True,
    )


class PodTemplatePart(Part):
    """A part of Kubernetes' own PodTemplateSpec: what is not named here is the API server's to judge."""

    model_config = ConfigDict(extra="allow")


class PodSpec(PodTemplatePart):
    """The pod."""

    termination_grace_period_seconds: Annotated[Seconds, Field(ge=0)] | None = None
    """How long a worker that is to end has before it is killed; drainSeconds and 15 more by default."""


class PodTemplate(PodTemplatePart):
    """The pod and its metadata."""

    spec: PodSpec | None = None
    """The pod."""
