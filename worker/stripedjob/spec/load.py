"""Reads StripedJob files, and says of every mistake in them where it is, what it is, and the way out.

The lines come from the YAML nodes; the mistakes from the model (mistakes.py), all of a file's at once.
"""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stripedjob.spec.mistakes import mistakes, named
from stripedjob.spec.model import API_VERSION, KIND, StripedJob


class SpecError(Exception):
    """A StripedJob that cannot be used; the message lists its mistakes, one a line."""


def load(path: str | os.PathLike[str]) -> StripedJob:
    """Read one StripedJob from a YAML or JSON file; raises SpecError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 text") from error
    return parse(text, str(path))


def parse(text: str, name: str = "StripedJob") -> StripedJob:
    """Read one StripedJob from YAML or JSON text; `name` stands in the messages. Raises SpecError."""
    try:
        nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{name}:{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: is not YAML: {error}") from error
    jobs = [i for i, document in enumerate(documents) if isinstance(document, dict) and document.get("kind") == KIND]
    if len(jobs) > 1:
        raise SpecError(f"{name}: holds {len(jobs)} StripedJobs; give each a file of its own")
    index = jobs[0] if jobs else 0
    if not documents or not isinstance(documents[index], dict):
        raise SpecError(f"{name}: holds no StripedJob; it begins with apiVersion: {API_VERSION} and kind: {KIND}")
    document = documents[index]
    kind, version = document.get("kind"), document.get("apiVersion")
    if kind != KIND and version != API_VERSION:
        raise SpecError(
            f"{name}:1: is no StripedJob: kind is {kind!r} and apiVersion is {version!r}, in place of {KIND} and"
            f" {API_VERSION}"
        )
    try:
        return StripedJob.model_validate(document)
    except ValidationError as error:
        raise SpecError("\n".join(named(error, document, nodes[index], name))) from error


def check(data: dict[str, Any]) -> StripedJob:
    """Read a StripedJob from plain data, as the API server gives it; raises SpecError."""
    try:
        return StripedJob.model_validate(data)
    except ValidationError as error:
        raise SpecError("; ".join(words for _, words in mistakes(error, data))) from error
