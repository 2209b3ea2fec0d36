"""HTML pages from a package's templates, everything in them escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from video_snl.utils.json_text import to_json

__all__ = ["page_templates"]


def page_templates(package: str) -> Environment:
    """Return the templates of a package; an undefined value in one is an error.

    Args:
        package: Package with a folder ``templates``.
    """
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_function"] = to_json
    return environment
