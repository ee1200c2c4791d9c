"""The HTTP edge: FastAPI, one module per resource, every refusal a problem document.

``create_app`` serves a runtime it does not own: ``bootstrap`` starts and stops that.
"""

from router.api.app import create_app

__all__ = ["create_app"]
