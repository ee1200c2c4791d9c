"""Decisions: measured series replayed through our engine and through the published rules of others.

``python -m bench.decisions --series FILE [--log OUT.jsonl] [--rules all|name,…] [--from-slice K] [--slice-s S]
[--frontier] [--plot OUT.svg] [--table OUT.txt] [--score LOG.jsonl]`` prints one JSON object, rules -> metrics, and a
table on stderr. ``--log`` writes the path our engine had in force for every ordered pair and slice; ``--score`` judges
such a file from the raw series alone. ``--frontier`` (implied by ``--plot``) tunes every rule on the first half.
``--synthetic TRACES`` runs steps, brown-outs and losses on noise fitted to labelled traces; ``--budget`` and
``--asymmetric`` run the other two judgements of decisions.
"""

from bench.decisions.cli import main

__all__ = ["main"]
