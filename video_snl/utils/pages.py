"""HTML pages from a package's templates, everything in them escaped."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from video_snl.utils.json_text import to_json

__all__ = ["page_script", "page_templates"]


def page_templates(*packages: str) -> Environment:
    """Return the templates of packages; an undefined value in one is an error.

    Args:
        packages: Packages with a folder ``templates``; of templates of one name, the first is
            taken.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_function"] = to_json
    return environment


def page_script(package: str, *names: str) -> str:
    """Return scripts of a package as they are; a template would read some braces as its own."""
    environment = page_templates(package)
    assert environment.loader is not None
    return "\n".join(environment.loader.get_source(environment, name)[0] for name in names)
