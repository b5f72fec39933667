"""Sphinx's settings for the site of these pages (`docs/make_site.py` copies this file beside them as conf.py)."""

from ecgbatch import __version__

project = "ecgbatch"
copyright = "its authors. Research software. Not a medical device. Not for diagnosis."
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "contents"

html_theme = "furo"
html_title = f"ecgbatch {__version__}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"light_css_variables": {"color-brand-primary": "#b3261e", "color-brand-content": "#b3261e"}}

myst_heading_anchors = 3
"""As GitHub names them, so that links to a heading hold there and here."""

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
