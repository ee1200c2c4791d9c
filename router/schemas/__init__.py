"""Pydantic models of the HTTP contract and their mapping to and from core types, one module per resource group.

Bodies are strict (unknown fields refused, every number bounded, no NaN) and turn into core types. Answers are plain
dicts made by pure functions, so that hot paths pay for no validation; the ``…Answer`` models describe them in OpenAPI
and tests hold the two together.
"""
