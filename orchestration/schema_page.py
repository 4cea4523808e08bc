"""The schema as one page: HTML that needs no network, with an entity diagram."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from featurestore.catalogue import Catalogue
from orchestration.schema_diagram import diagram

_TEMPLATE = "schema_page.html.jinja"


def schema_page(catalogue: Catalogue) -> str:
    """Write a schema as a page; the same schema gives the same page."""
    environment = Environment(
        loader=PackageLoader("orchestration"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The diagram escapes what it is made of.
    drawn = Markup(diagram(catalogue.tables))  # noqa: S704
    return environment.get_template(_TEMPLATE).render(catalogue=catalogue, diagram=drawn)
