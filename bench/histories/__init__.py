"""Goal R4: random histories of operators and faults against the real decisions, with nothing else around them.

``python -m bench histories`` plays 100,000 histories of 50 operations; ``python -m bench.histories --histories 2000
--operations 50 --seed 1 --processes 2`` as many as wanted. The decisions are the product's own (``steering.place``,
``drain.preflight``, ``open_drain``, ``step`` and ``drive``, the tables of ``pools``, dials); rows are those of the
simulator, routes are given. What must hold is in ``rules.py``; the bugs that are planted to see whether it would be
noticed are in ``planted.py``.
"""

from bench.histories.run import main

__all__ = ["main"]
